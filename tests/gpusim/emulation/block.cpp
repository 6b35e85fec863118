// Compiled without sanitizers (CMakeLists.txt): what the scheduler does to its own state is no business of theirs.
#include "emulation/block.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "emulation/fiber.hpp"

namespace emulation {
namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxGridYZ = 65535;
constexpr std::size_t kMaxShared = std::size_t{48} << 10U;

enum class State : std::uint8_t { kNew, kReady, kAtBarrier, kAtWarpOperation, kReturned };
constexpr unsigned kStates = 5;
constexpr const char* kStateNames[kStates] = {"not started", "ready", "at a barrier", "at a warp operation",
                                              "returned"};

struct Thread {
  uint3 index{};
  State state = State::kNew;
  Fiber* fiber = nullptr;  ///< its own: a shared one would hide races from the race detector
  // At a warp operation:
  WarpOperation operation = WarpOperation::kSync;
  unsigned mask = 0;
  int source = 0;
  std::uint64_t value = 0;
  std::uint64_t result = 0;
  void* meeting = nullptr;  ///< the tag of the operation that it has come through
};

/// The one block that runs; fibers are kept from block to block.
struct Machine {
  uint3 block{};
  dim3 extent{1, 1, 1};
  dim3 grid{1, 1, 1};
  unsigned count = 0;
  unsigned current = 0;
  unsigned position = 0;  ///< in `order`
  unsigned alive = 0;
  unsigned at_barrier = 0;
  Thread threads[kMaxThreads];
  unsigned order[kMaxThreads];
  void (*body)(const void*) = nullptr;
  const void* context = nullptr;

  Fiber starter;
  Fiber* running = nullptr;

  Schedule schedule = Schedule::kForward;
  unsigned seed = 1;

  // Addresses by which the race detector is told of order. Who waits at a barrier or warp operation comes after those
  // that have reached it, but not after what they did behind it: who goes on first may be at the next one before others
  // have left this. So two that follow each other have different tags; none can be two ahead.
  char launch_tag = 0;
  char end_tag = 0;
  char barrier_tags[2] = {};
  unsigned barriers = 0;
  char arrival_tags[kMaxThreads] = {};
  char meeting_tags[kMaxThreads / kWarp][kWarp] = {};
  unsigned meetings[kMaxThreads / kWarp] = {};
  alignas(256) unsigned char shared[kMaxShared] = {};
};

Machine machine;
std::mutex one_grid_at_a_time;

unsigned random_below(unsigned bound) {
  machine.seed = machine.seed * 1664525U + 1013904223U;
  return (machine.seed >> 8U) % bound;
}

void go_to(Fiber* fiber) {
  Fiber* const from = machine.running;
  machine.running = fiber;
  switch_fiber(*from, *fiber);
}

/// The next thread of the schedule that can run.
bool find_runnable(unsigned& found) {
  for (unsigned step = 1; step <= machine.count; ++step) {
    const unsigned position = (machine.position + step) % machine.count;
    const unsigned thread = machine.order[position];
    const State state = machine.threads[thread].state;
    if (state != State::kNew && state != State::kReady) continue;
    machine.position = position;
    found = thread;
    return true;
  }
  return false;
}

void run_next(const char* deadlock) {
  unsigned next = 0;
  if (!find_runnable(next)) fail(deadlock);
  machine.current = next;
  go_to(machine.threads[next].fiber);
}

/// The calling thread waits for others.
void wait() {
  run_next("deadlock: a __syncthreads that not all threads reach, or a warp mask with lanes that never come");
}

void release_barrier() {
  machine.at_barrier = 0;
  ++machine.barriers;
  for (unsigned i = 0; i < machine.count; ++i) {
    if (machine.threads[i].state == State::kAtBarrier) machine.threads[i].state = State::kReady;
  }
}

/// Lets the lanes of `mask` go on if all are there.
bool release_warp(unsigned first, unsigned mask, WarpOperation operation) {
  unsigned present = 0;
  std::uint64_t ballot = 0;
  for (unsigned lane = 0; lane < kWarp && first + lane < machine.count; ++lane) {
    if ((mask >> lane & 1U) == 0) continue;
    const Thread& thread = machine.threads[first + lane];
    if (thread.state == State::kReturned) fail("a warp mask names a lane that has returned");
    // A lane that waits at another operation, or with other partners, has not come to this one yet.
    if (thread.state != State::kAtWarpOperation || thread.mask != mask || thread.operation != operation) return false;
    present |= 1U << lane;
    if (thread.value != 0) ballot |= std::uint64_t{1} << lane;
  }
  if (present != mask) fail("a warp mask names lanes that the block does not have");
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((present >> lane & 1U) == 0) continue;
    Thread& thread = machine.threads[first + lane];
    if (operation == WarpOperation::kShuffle) {
      if ((present >> static_cast<unsigned>(thread.source) & 1U) == 0) fail("a shuffle reads a lane outside its mask");
      thread.result = machine.threads[first + static_cast<unsigned>(thread.source)].value;
    } else {
      thread.result = ballot;
    }
  }
  const unsigned warp = first / kWarp;
  void* const meeting = &machine.meeting_tags[warp][machine.meetings[warp]++ % kWarp];
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if ((present >> lane & 1U) == 0) continue;
    machine.threads[first + lane].state = State::kReady;
    machine.threads[first + lane].meeting = meeting;
    acquire(&machine.arrival_tags[first + lane]);
  }
  release(meeting);
  return true;
}

void thread_returned() {
  machine.threads[machine.current].state = State::kReturned;
  --machine.alive;
  if (machine.at_barrier > 0) fail("a thread returned while others wait at __syncthreads");
  const unsigned first = machine.current / kWarp * kWarp;
  for (unsigned i = first; i < first + kWarp && i < machine.count; ++i) {
    const Thread& other = machine.threads[i];
    if (other.state == State::kAtWarpOperation && (other.mask >> (machine.current - first) & 1U) != 0) {
      fail("a lane returned that others wait for at a warp operation");
    }
  }
}

/// What every fiber does: the same thread of one block after the other, for ever.
void fiber_main() {
  enter_fiber();
  for (;;) {
    machine.threads[machine.current].state = State::kReady;
    acquire(&machine.launch_tag);
    machine.body(machine.context);
    release(&machine.end_tag);
    thread_returned();
    if (machine.alive == 0) {
      go_to(&machine.starter);
    } else {
      run_next("deadlock: the last thread that could run has returned");
    }
  }
}

void check(const GridShape& shape, std::size_t threads) {
  const bool usable = threads > 0 && threads <= kMaxThreads && shape.block.z <= 64 && shape.grid.x > 0 &&
                      shape.grid.y > 0 && shape.grid.z > 0 && shape.grid.y <= kMaxGridYZ &&
                      shape.grid.z <= kMaxGridYZ && shape.shared_bytes <= kMaxShared;
  if (usable) return;
  std::fprintf(stderr, "emulation: a GPU refuses this launch: grid %u %u %u, block %u %u %u, %zu bytes shared\n",
               shape.grid.x, shape.grid.y, shape.grid.z, shape.block.x, shape.block.y, shape.block.z,
               shape.shared_bytes);
  std::abort();
}

void run_block() {
  if (machine.schedule == Schedule::kRandom) {
    for (unsigned i = machine.count - 1; i > 0; --i) {
      const unsigned j = random_below(i + 1);
      const unsigned thread = machine.order[i];
      machine.order[i] = machine.order[j];
      machine.order[j] = thread;
    }
  }
  for (std::size_t i = 0; i < kMaxShared; ++i) machine.shared[i] = 0xCD;
  for (unsigned i = 0; i < machine.count; ++i) {
    Thread& thread = machine.threads[i];
    thread.state = State::kNew;
    thread.index = {i % machine.extent.x, i / machine.extent.x % machine.extent.y,
                    i / machine.extent.x / machine.extent.y};
  }
  machine.alive = machine.count;
  machine.at_barrier = 0;
  machine.position = 0;
  machine.current = machine.order[0];
  release(&machine.launch_tag);  // blocks come one after the other, the threads of a block do not
  go_to(machine.threads[machine.current].fiber);
  acquire(&machine.end_tag);
}

}  // namespace

void set_schedule(Schedule schedule, unsigned seed) {
  machine.schedule = schedule;
  machine.seed = seed;
}

void run_grid(const GridShape& shape, void (*body)(const void* context), const void* context) {
  const std::lock_guard lock(one_grid_at_a_time);
  const std::size_t threads = std::size_t{shape.block.x} * shape.block.y * shape.block.z;
  check(shape, threads);
  machine.count = static_cast<unsigned>(threads);
  machine.extent = shape.block;
  machine.grid = shape.grid;
  machine.body = body;
  machine.context = context;
  machine.running = &machine.starter;
  adopt_thread(machine.starter);
  // All before the first begins: the race detector orders what a thread did before what those do that it creates.
  for (unsigned i = 0; i < machine.count; ++i) {
    if (machine.threads[i].fiber == nullptr) machine.threads[i].fiber = create_fiber(fiber_main);
  }
  const bool reverse = machine.schedule == Schedule::kReverse;
  for (unsigned i = 0; i < machine.count; ++i) machine.order[i] = reverse ? machine.count - 1 - i : i;
  const std::size_t blocks = std::size_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::size_t block = reverse ? blocks - 1 - i : i;
    machine.block = {static_cast<unsigned>(block % shape.grid.x),
                     static_cast<unsigned>(block / shape.grid.x % shape.grid.y),
                     static_cast<unsigned>(block / shape.grid.x / shape.grid.y)};
    run_block();
  }
}

const uint3& thread_index() { return machine.threads[machine.current].index; }
const uint3& block_index() { return machine.block; }
const dim3& block_extent() { return machine.extent; }
const dim3& grid_extent() { return machine.grid; }
void* dynamic_shared() { return machine.shared; }
int lane_index() { return static_cast<int>(machine.current % kWarp); }

void block_barrier() {
  void* const tag = &machine.barrier_tags[machine.barriers % 2];
  release(tag);
  if (machine.alive != machine.count) fail("__syncthreads after some threads of the block have returned");
  machine.threads[machine.current].state = State::kAtBarrier;
  if (++machine.at_barrier == machine.alive) {
    release_barrier();
  } else {
    wait();
  }
  acquire(tag);
}

std::uint64_t warp_exchange(WarpOperation operation, unsigned mask, std::uint64_t value, int source) {
  const unsigned self = machine.current;
  const unsigned first = self / kWarp * kWarp;
  if ((mask >> (self - first) & 1U) == 0) fail("a lane calls a warp operation whose mask leaves it out");
  Thread& thread = machine.threads[self];
  thread.state = State::kAtWarpOperation;
  thread.operation = operation;
  thread.mask = mask;
  thread.source = source;
  thread.value = value;
  release(&machine.arrival_tags[self]);
  if (!release_warp(first, mask, operation)) wait();
  acquire(thread.meeting);
  return thread.result;
}

void fail(const char* message) {
  const Thread& thread = machine.threads[machine.current];
  std::fprintf(stderr, "emulation: %s (block %u %u %u, thread %u %u %u)\n", message, machine.block.x, machine.block.y,
               machine.block.z, thread.index.x, thread.index.y, thread.index.z);
  unsigned counts[kStates] = {};
  for (unsigned i = 0; i < machine.count; ++i) ++counts[static_cast<unsigned>(machine.threads[i].state)];
  for (unsigned i = 0; i < kStates; ++i) std::fprintf(stderr, "  %u %s\n", counts[i], kStateNames[i]);
  std::abort();
}

}  // namespace emulation
