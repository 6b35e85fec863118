// What tests may ask of the stand-in TensorRT. C ABI.
#pragma once

#include <cstddef>

#define GPUSIM_TRT_API extern "C" __attribute__((visibility("default")))

/// The `nth` call from now on (1 = the next, 0 = none) that can fail does: a null object, or false, and a line in the
/// log.
GPUSIM_TRT_API void gpusim_trt_fail(long nth);
GPUSIM_TRT_API int gpusim_trt_failed(void);
/// Calls that could fail since the last gpusim_trt_fail.
GPUSIM_TRT_API long gpusim_trt_calls(void);
/// Runtimes, engines and execution contexts that exist.
GPUSIM_TRT_API int gpusim_trt_live(void);
/// Calls of enqueueV3 since the process began.
GPUSIM_TRT_API long gpusim_trt_enqueues(void);
/// What every engine says its contexts need for themselves, in bytes.
GPUSIM_TRT_API void gpusim_trt_set_context_bytes(long bytes);
