// What tests and the stand-in TensorRT may ask of the stand-in CUDA runtime, beside CUDA's own calls. C ABI.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#if defined(__GNUC__)
#define GPUSIM_API extern "C" __attribute__((visibility("default")))
#endif

/// Queues `run(user)` as work of the device on `stream`: it may touch that device's memory, is captured, and is
/// repeated by every launch of the graph. `release(user)` runs when neither stream nor graph holds it any more, or at
/// once if the call fails. `what` is what the log says.
GPUSIM_API cudaError_t gpusim_enqueue(cudaStream_t stream, const char* what, void (*run)(void*), void (*release)(void*),
                                      void* user);
/// Called by work that runs on the device: the error that the next synchronisation reports.
GPUSIM_API void gpusim_raise(int error);

/// 1: work runs when it is queued; 0 (also GPUSIM_EAGER unset): not before somebody waits for it.
GPUSIM_API void gpusim_set_eager(int eager);

/// The `nth` call from now on (1 = the next; 0 = none) returns `error` and does nothing. `name`: count calls of this
/// function alone; null: all, save those that only ask for errors. `sticky`: from then on its device answers everything
/// with `error`.
GPUSIM_API void gpusim_fail(const char* name, long nth, int error, int sticky);
/// The `nth` piece of work that a device runs from now on ends with `error`, seen at the next synchronisation.
GPUSIM_API void gpusim_fail_work(long nth, int error, int sticky);
/// Whether the failure asked for last has happened.
GPUSIM_API int gpusim_failed(void);
/// Ends injected failures and heals the devices.
GPUSIM_API void gpusim_heal(void);

/// Calls since the last gpusim_clear_log, one per line: the function, then what it moved or launched. Writes at most
/// `capacity` bytes with the final zero; returns the bytes needed.
GPUSIM_API std::size_t gpusim_log(char* text, std::size_t capacity);
GPUSIM_API void gpusim_clear_log(void);
/// Calls that gpusim_fail would have counted since the last gpusim_clear_log.
GPUSIM_API long gpusim_calls(void);

/// Streams, events, graphs and allocations that nobody tried to release, one per line, in the manner of gpusim_log.
GPUSIM_API std::size_t gpusim_live(char* text, std::size_t capacity);
