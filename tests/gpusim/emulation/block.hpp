// Runs CUDA blocks on the CPU: one block at a time, one fiber per CUDA thread, warps of 32.
//
// A fiber runs until it meets a barrier or a warp-wide operation whose partners are not there yet; then the next one in
// the schedule runs. Three schedules (forward, reverse, random) let missing synchronisation show as different results,
// and ThreadSanitizer sees each fiber as a thread of its own, ordered by barriers and warp operations alone. Barriers
// that some threads never reach, and warp masks that do not fit, end the process with the block and the thread.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>

namespace emulation {

struct GridShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;
};

enum class Schedule : std::uint8_t { kForward, kReverse, kRandom };

/// For the grids that follow. The random schedule is the same for the same seed.
void set_schedule(Schedule schedule, unsigned seed = 1);

/// Calls `body(context)` in every thread of every block. Blocks run one after the other, in the schedule's order;
/// a second caller waits until the first one's grid is done. Ends the process on a launch that a GPU would refuse.
void run_grid(const GridShape& shape, void (*body)(const void* context), const void* context);

// --- What the builtins of cuda_builtins.hpp are made of; to be called from a body
// --------------------------------------

[[nodiscard]] const uint3& thread_index();
[[nodiscard]] const uint3& block_index();
[[nodiscard]] const dim3& block_extent();
[[nodiscard]] const dim3& grid_extent();
/// The block's dynamic shared memory, filled with 0xCD at its beginning.
[[nodiscard]] void* dynamic_shared();

/// Waits for all threads of the block.
void block_barrier();

enum class WarpOperation : std::uint8_t { kSync, kBallot, kShuffle };

/// Waits until all lanes of `mask` are at this operation with this mask. kBallot: the lanes whose value is not 0;
/// kShuffle: the value of lane `source`.
std::uint64_t warp_exchange(WarpOperation operation, unsigned mask, std::uint64_t value, int source);

/// Number of the calling thread within its warp.
[[nodiscard]] int lane_index();

/// Ends the process with `message` and where the calling thread is.
[[noreturn]] void fail(const char* message);

}  // namespace emulation
