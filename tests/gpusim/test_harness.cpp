// The emulation itself: does it do what a GPU does, and does it find what it is there to find?
//
// Compiled with the emulation's CUDA builtins. Faults end a process, so each has one of its own, whose words are read.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "emulation/kernel_registry.hpp"
#include "swiftdet/cuda/launch.hpp"

using swiftdet::cuda::launch;
using swiftdet::cuda::LaunchShape;

namespace harness {

constexpr unsigned kAll = 0xFFFFFFFFU;

void indices(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = static_cast<int>(block * 1000 + thread);
}

void warp_operations(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned odd = __ballot_sync(kAll, lane % 2 == 1 ? 1 : 0);
  const unsigned any = __any_sync(kAll, lane == 7 ? 1 : 0) + (__any_sync(kAll, 0) != 0 ? 100U : 0U);
  const unsigned long long long_value = 0x100000000ULL * lane;
  const unsigned long long from_three = __shfl_sync(kAll, long_value, 3);
  const unsigned neighbour = __shfl_xor_sync(kAll, lane, 1);
  unsigned half = 0;
  if (lane < 16) half = __ballot_sync(0xFFFFU, 1);
  __syncwarp(kAll);
  out[threadIdx.x * 5] = odd;
  out[threadIdx.x * 5 + 1] = any;
  out[threadIdx.x * 5 + 2] = static_cast<unsigned>(from_three >> 32U);
  out[threadIdx.x * 5 + 3] = neighbour;
  out[threadIdx.x * 5 + 4] = half;
}

void count_with_atomics(int* counter) { atomicAdd(counter, 2); }

void first_byte_of_shared(unsigned char* out) {
  SWIFTDET_DYNAMIC_SHARED(unsigned char, bytes);
  out[blockIdx.x] = bytes[7];
  bytes[7] = 1;
}

/// Without the barrier, whoever runs first reads what is not there yet.
template <bool kWithBarrier>
void reverse_through_shared(int* out) {
  __shared__ int values[64];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (kWithBarrier) __syncthreads();
  out[threadIdx.x] = values[63 - threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = -1;
}

void half_a_barrier(int*) {
  if (threadIdx.x < 16) __syncthreads();
}
void barrier_after_return(int*) {
  if (threadIdx.x >= 16) return;
  __syncthreads();
}
void mask_without_the_caller(int*) { __syncwarp(threadIdx.x < 16 ? 0xFFFFU : 0xFFU << 16U); }
void different_masks(int*) { __ballot_sync(threadIdx.x < 16 ? kAll : 0xFFFF0000U, 1); }
void different_operations(int*) {
  if (threadIdx.x < 16) {
    __syncwarp(kAll);
  } else {
    __ballot_sync(kAll, 1);
  }
}
void mask_of_returned_lanes(int*) {
  if (threadIdx.x >= 16) return;
  __syncwarp(kAll);
}
void mask_beyond_the_block(int*) { __syncwarp(kAll); }
void shuffle_from_outside(int*) {
  if (threadIdx.x < 16) __shfl_sync(0xFFFFU, 1, 20);
}

[[maybe_unused]] void shared_overflow(int* out) {
  __shared__ int values[32];
  int* volatile place = values;                            // or UndefinedBehaviorSanitizer is the first to see it
  place[threadIdx.x + static_cast<unsigned>(out[0])] = 1;  // out[0] is 1
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}
[[maybe_unused]] void global_overflow(int* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = 1; }

}  // namespace harness

namespace {

std::vector<int> reversed(emulation::Schedule schedule, bool with_barrier) {
  std::vector<int> out(64);
  const LaunchShape shape{dim3(1), dim3(64)};
  emulation::set_schedule(schedule);
  const cudaError_t status = with_barrier ? launch<harness::reverse_through_shared<true>>(shape, nullptr, out.data())
                                          : launch<harness::reverse_through_shared<false>>(shape, nullptr, out.data());
  CHECK(status == cudaSuccess);
  return out;
}

template <auto kKernel>
void run(unsigned blocks, unsigned threads) {
  std::vector<int> memory(64, 1);
  static_cast<void>(launch<kKernel>(LaunchShape{dim3(blocks), dim3(threads)}, nullptr, memory.data()));
}

/// What may end the process, by name.
const std::map<std::string, std::function<void()>>& faults() {
  static const std::map<std::string, std::function<void()>> all{
      {"none", [] { reversed(emulation::Schedule::kForward, true); }},
      {"race", [] { reversed(emulation::Schedule::kForward, false); }},
      {"half a barrier", [] { run<harness::half_a_barrier>(1, 32); }},
      {"barrier after return", [] { run<harness::barrier_after_return>(1, 32); }},
      {"mask without the caller", [] { run<harness::mask_without_the_caller>(1, 32); }},
      {"different masks", [] { run<harness::different_masks>(1, 32); }},
      {"different operations", [] { run<harness::different_operations>(1, 32); }},
      {"mask of returned lanes", [] { run<harness::mask_of_returned_lanes>(1, 32); }},
      {"mask beyond the block", [] { run<harness::mask_beyond_the_block>(1, 20); }},
      {"shuffle from outside", [] { run<harness::shuffle_from_outside>(1, 32); }},
      {"too many threads", [] { run<harness::half_a_barrier>(1, 1025); }},
      {"no blocks", [] { run<harness::half_a_barrier>(0, 32); }},
      {"shared overflow", [] { run<harness::shared_overflow>(1, 32); }},
      {"global overflow", [] { run<harness::global_overflow>(2, 64); }},
  };
  return all;
}

constexpr const char* kFaultVariable = "HARNESS_FAULT";

/// What a fault makes a process write to its error stream, and whether that ended well.
struct Ending {
  std::string words;
  bool good = false;
};

/// Runs a fault in this program, started anew: ThreadSanitizer does not follow fibers through a fork.
Ending ending_of(const std::string& fault) {
  REQUIRE(faults().count(fault) == 1);
  int ends[2] = {};
  REQUIRE(pipe(ends) == 0);
  std::fflush(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    setenv(kFaultVariable, fault.c_str(), 1);
    execl("/proc/self/exe", "gpusim_harness", "--no-skip", "--test-case=a fault", nullptr);
    _exit(EXIT_FAILURE);
  }
  close(ends[1]);
  Ending ending;
  char buffer[4096];
  for (ssize_t got = read(ends[0], buffer, sizeof buffer); got > 0; got = read(ends[0], buffer, sizeof buffer)) {
    ending.words.append(buffer, static_cast<std::size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  ending.good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return ending;
}

void check_refused(const std::string& fault, const char* reason) {
  const Ending ending = ending_of(fault);
  INFO(fault, ": ", ending.words);
  CHECK_FALSE(ending.good);
  CHECK(ending.words.find(reason) != std::string::npos);
}

#if defined(__SANITIZE_THREAD__)
constexpr bool kFindsRaces = true;
#else
constexpr bool kFindsRaces = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kFindsOverflows = true;
#else
constexpr bool kFindsOverflows = false;
#endif

}  // namespace

TEST_CASE("every thread of every block runs once and knows its place") {
  for (const auto schedule :
       {emulation::Schedule::kForward, emulation::Schedule::kReverse, emulation::Schedule::kRandom}) {
    emulation::set_schedule(schedule);
    const LaunchShape shape{dim3(2, 3, 2), dim3(4, 2, 3)};
    std::vector<int> out(12 * 24, -1);
    REQUIRE(launch<harness::indices>(shape, nullptr, out.data()) == cudaSuccess);
    for (int block = 0; block < 12; ++block) {
      for (int thread = 0; thread < 24; ++thread) {
        CHECK(out[static_cast<std::size_t>(block * 24 + thread)] == block * 1000 + thread);
      }
    }
  }
}

TEST_CASE("warp operations") {
  for (const auto schedule :
       {emulation::Schedule::kForward, emulation::Schedule::kReverse, emulation::Schedule::kRandom}) {
    emulation::set_schedule(schedule);
    std::vector<unsigned> out(5 * 64);
    REQUIRE(launch<harness::warp_operations>(LaunchShape{dim3(1), dim3(64)}, nullptr, out.data()) == cudaSuccess);
    for (unsigned thread = 0; thread < 64; ++thread) {
      const unsigned* const got = out.data() + static_cast<std::size_t>(5 * thread);
      CHECK(got[0] == 0xAAAAAAAAU);
      CHECK(got[1] == 1);
      CHECK(got[2] == 3);
      CHECK(got[3] == ((thread % 32) ^ 1U));
      CHECK(got[4] == (thread % 32 < 16 ? 0xFFFFU : 0U));
    }
  }
}

TEST_CASE("atomics add up, and shared memory is never clean") {
  int counter = 0;
  REQUIRE(launch<harness::count_with_atomics>(LaunchShape{dim3(5), dim3(40)}, nullptr, &counter) == cudaSuccess);
  CHECK(counter == 400);
  std::vector<unsigned char> bytes(3);
  REQUIRE(launch<harness::first_byte_of_shared>(LaunchShape{dim3(3), dim3(1), 8}, nullptr, bytes.data()) ==
          cudaSuccess);
  CHECK(bytes == std::vector<unsigned char>{0xCD, 0xCD, 0xCD});
}

TEST_CASE("a missing barrier shows in the schedules, and in the race detector") {
  std::vector<int> right(64);
  for (int i = 0; i < 64; ++i) right[static_cast<std::size_t>(i)] = 63 - i;
  for (const auto schedule :
       {emulation::Schedule::kForward, emulation::Schedule::kReverse, emulation::Schedule::kRandom}) {
    CHECK(reversed(schedule, true) == right);
  }
  const Ending with = ending_of("none");
  CHECK(with.words == "");
  CHECK(with.good);
  if (kFindsRaces) {
    check_refused("race", "ThreadSanitizer: data race");
    CHECK(ending_of("race").words.find("reverse_through_shared<false>") != std::string::npos);
  } else {
    CHECK(reversed(emulation::Schedule::kForward, false) != right);
    CHECK(reversed(emulation::Schedule::kReverse, false) != right);
  }
}

TEST_CASE("what a GPU leaves undefined ends the process and is named") {
  check_refused("half a barrier", "a thread returned while others wait at __syncthreads");
  check_refused("barrier after return", "a thread returned while others wait");
  check_refused("mask without the caller", "whose mask leaves it out");
  check_refused("different masks", "that others wait for at a warp operation");
  check_refused("different operations", "deadlock");
  check_refused("mask of returned lanes", "that others wait for at a warp operation");
  check_refused("mask beyond the block", "lanes that the block does not have");
  check_refused("shuffle from outside", "a lane outside its mask");
  check_refused("too many threads", "a GPU refuses this launch");
  check_refused("no blocks", "a GPU refuses this launch");
}

TEST_CASE("a fault" * doctest::skip()) {  // run by ending_of alone
  const char* const name = std::getenv(kFaultVariable);
  REQUIRE(name != nullptr);
  faults().at(name)();
}

TEST_CASE("reads and writes out of bounds are found" * doctest::skip(!kFindsOverflows)) {
  check_refused("shared overflow", "AddressSanitizer: global-buffer-overflow");
  check_refused("global overflow", "AddressSanitizer: heap-buffer-overflow");
}

TEST_CASE("a kernel is found by its name") {
  const emulation::Twin* const plain = emulation::find_twin_named("harness::indices");
  REQUIRE(plain != nullptr);
  CHECK(plain->function == reinterpret_cast<const void*>(harness::indices));
  CHECK(emulation::find_twin_named("harness::reverse_through_shared<true>") != nullptr);
  CHECK(emulation::find_twin_named("harness::unknown") == nullptr);
  CHECK(cudaLaunchKernel(nullptr, dim3(1), dim3(1), nullptr, 0, nullptr) == cudaErrorInvalidDeviceFunction);
}
