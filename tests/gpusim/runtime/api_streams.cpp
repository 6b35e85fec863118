// Streams, events, capture and graphs.
#include <memory>
#include <string>
#include <utility>

#include "machine.hpp"

using gpusim::Call;
using gpusim::Capture;
using gpusim::Event;
using gpusim::Graph;
using gpusim::Machine;
using gpusim::Mark;
using gpusim::Stream;
using gpusim::thread;
using gpusim::Work;

namespace {

Event* event_of(cudaEvent_t handle) {
  auto* const event = reinterpret_cast<Event*>(handle);
  return Machine::get().events.count(event) != 0 ? event : nullptr;
}

}  // namespace

GPUSIM_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
  const Call call("cudaStreamCreateWithFlags");
  if (call.refused()) return call.result();
  if ((flags & cudaStreamNonBlocking) == 0)
    return Call::done(cudaErrorInvalidValue);  // it would wait for other libraries' work
  auto* const stream = new Stream{thread().device, {}, nullptr};
  Machine::get().streams.insert(stream);
  *handle = reinterpret_cast<cudaStream_t>(stream);
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const Call call("cudaStreamDestroy");
  Machine& machine = Machine::get();
  auto* const stream = reinterpret_cast<Stream*>(handle);
  if (call.refused()) {
    machine.abandon(handle);
    if (machine.streams.count(stream) != 0) stream->queue.clear();
    return call.result();
  }
  if (machine.streams.count(stream) == 0) return Call::done(cudaErrorInvalidResourceHandle);
  machine.drain(*stream);
  machine.streams.erase(stream);
  delete stream;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const Call call("cudaStreamSynchronize");
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  if (stream->capture != nullptr) {
    stream->capture->broken = true;
    return Call::done(cudaErrorStreamCaptureUnsupported);
  }
  Machine& machine = Machine::get();
  machine.drain(*stream);
  return Call::done(machine.take_work_error(stream->device));
}

GPUSIM_API cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const Call call("cudaStreamQuery");
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  if (stream->capture != nullptr) {
    stream->capture->broken = true;
    return Call::done(cudaErrorStreamCaptureUnsupported);
  }
  Machine& machine = Machine::get();
  if (stream->queue.empty()) return Call::done(machine.take_work_error(stream->device));
  machine.drain(*stream);  // a caller that polls gets there
  return cudaErrorNotReady;
}

GPUSIM_API cudaError_t cudaDeviceSynchronize() {
  const Call call("cudaDeviceSynchronize");
  if (call.refused()) return call.result();
  Machine& machine = Machine::get();
  if (const cudaError_t error = machine.forbid_in_capture(); error != cudaSuccess) return Call::done(error);
  machine.drain_all();
  return Call::done(machine.take_work_error(thread().device));
}

GPUSIM_API cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned /*flags*/) {
  const Call call("cudaStreamWaitEvent");
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  Event* const event = event_of(event_handle);
  if (stream == nullptr || event == nullptr) return Call::done(cudaErrorInvalidResourceHandle);
  Machine& machine = Machine::get();
  if (event->capture != nullptr) {  // joins that capture
    stream->capture = event->capture;
    return cudaSuccess;
  }
  return Call::done(machine.submit(*stream, {[mark = event->mark, &machine] { machine.reach(*mark); }, false}));
}

GPUSIM_API cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* user) {
  const Call call("cudaLaunchHostFunc");
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  return Call::done(Machine::get().submit(*stream, {[=] { function(user); }, false}));
}

GPUSIM_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned flags) {
  const Call call("cudaEventCreateWithFlags");
  if (call.refused()) return call.result();
  auto* const event = new Event;
  event->device = thread().device;
  event->times = (flags & cudaEventDisableTiming) == 0;
  Machine::get().events.insert(event);
  *handle = reinterpret_cast<cudaEvent_t>(event);
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaEventCreate(cudaEvent_t* handle) { return cudaEventCreateWithFlags(handle, 0); }

GPUSIM_API cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  const Call call("cudaEventDestroy");
  Machine& machine = Machine::get();
  if (call.refused()) {
    machine.abandon(handle);
    return call.result();
  }
  Event* const event = event_of(handle);
  if (event == nullptr) return Call::done(cudaErrorInvalidResourceHandle);
  machine.drain_all();  // queued work may still name it
  machine.events.erase(event);
  delete event;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream_handle, unsigned flags) {
  const Call call("cudaEventRecord");
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(stream_handle, error);
  Event* const event = event_of(handle);
  if (stream == nullptr || event == nullptr || event->device != stream->device) {
    return Call::done(cudaErrorInvalidResourceHandle);
  }
  const bool external = (flags & cudaEventRecordExternal) != 0;
  if (stream->capture != nullptr && !external) {  // marks a place inside the capture, nothing that can be waited for
    event->capture = stream->capture;
    return cudaSuccess;
  }
  event->capture = nullptr;
  if (stream->capture == nullptr) event->mark = std::make_shared<Mark>(Mark{false, stream});
  return Call::done(Machine::get().submit(*stream, {[event, mark = event->mark] {
                                                      mark->done = event->recorded = true;
                                                      event->at = std::chrono::steady_clock::now();
                                                    },
                                                    false}));
}

GPUSIM_API cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) {
  return cudaEventRecordWithFlags(handle, stream, cudaEventRecordDefault);
}

GPUSIM_API cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  const Call call("cudaEventSynchronize");
  if (call.refused()) return call.result();
  Event* const event = event_of(handle);
  if (event == nullptr) return Call::done(cudaErrorInvalidResourceHandle);
  if (event->capture != nullptr) return Call::done(cudaErrorCapturedEvent);
  Machine& machine = Machine::get();
  machine.reach(*event->mark);
  return Call::done(machine.take_work_error(event->device));
}

GPUSIM_API cudaError_t cudaEventQuery(cudaEvent_t handle) {
  const Call call("cudaEventQuery");
  if (call.refused()) return call.result();
  Event* const event = event_of(handle);
  if (event == nullptr) return Call::done(cudaErrorInvalidResourceHandle);
  return event->mark->done ? cudaSuccess : cudaErrorNotReady;
}

GPUSIM_API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t second) {
  const Call call("cudaEventElapsedTime");
  if (call.refused()) return call.result();
  const Event* const begin = event_of(first);
  const Event* const end = event_of(second);
  if (begin == nullptr || end == nullptr || !begin->times || !end->times || !begin->recorded || !end->recorded) {
    return Call::done(cudaErrorInvalidResourceHandle);
  }
  if (!begin->mark->done || !end->mark->done) return Call::done(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->at - begin->at).count();
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const Call call("cudaStreamBeginCapture");
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  if (stream->capture != nullptr) return Call::done(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>();
  stream->capture->thread = std::this_thread::get_id();
  stream->capture->mode = mode;
  stream->capture->device = stream->device;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const Call call("cudaStreamEndCapture");
  Machine& machine = Machine::get();
  const auto forget = [&](const std::shared_ptr<Capture>& capture) {
    for (Stream* const other : machine.streams) {
      if (other->capture == capture) other->capture = nullptr;
    }
    for (Event* const event : machine.events) {
      if (event->capture == capture) event->capture = nullptr;
    }
  };
  *graph = nullptr;
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  if (call.refused()) {
    if (stream != nullptr && stream->capture != nullptr) forget(stream->capture);
    return call.result();
  }
  if (stream == nullptr) return Call::done(error);
  if (stream->capture == nullptr) return Call::done(cudaErrorIllegalState);
  const std::shared_ptr<Capture> capture = stream->capture;
  forget(capture);
  if (capture->thread != std::this_thread::get_id() && capture->mode != cudaStreamCaptureModeRelaxed) {
    return Call::done(cudaErrorStreamCaptureWrongThread);
  }
  if (capture->broken) return Call::done(cudaErrorStreamCaptureInvalidated);
  auto* const made = new Graph{stream->device, std::move(capture->work)};
  machine.graphs.insert(made);
  *graph = reinterpret_cast<cudaGraph_t>(made);
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const Call call("cudaStreamIsCapturing");
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  const Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->broken  ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  const Call call("cudaThreadExchangeStreamCaptureMode");
  if (call.refused()) return call.result();
  std::swap(*mode, thread().capture_mode);
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaGraphInstantiate(cudaGraphExec_t* handle, cudaGraph_t graph, unsigned long long /*flags*/) {
  const Call call("cudaGraphInstantiate");
  if (call.refused()) return call.result();
  Machine& machine = Machine::get();
  auto* const source = reinterpret_cast<Graph*>(graph);
  if (machine.graphs.count(source) == 0) return Call::done(cudaErrorInvalidValue);
  auto* const executable = new Graph(*source);
  machine.executables.insert(executable);
  *handle = reinterpret_cast<cudaGraphExec_t>(executable);
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  const Call call("cudaGraphLaunch");
  if (call.refused()) return call.result();
  Machine& machine = Machine::get();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(stream_handle, error);
  auto* const executable = reinterpret_cast<Graph*>(handle);
  if (stream == nullptr) return Call::done(error);
  if (machine.executables.count(executable) == 0 || executable->device != stream->device) {
    return Call::done(cudaErrorInvalidValue);
  }
  for (const Work& work : executable->work) machine.submit(*stream, work);
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle) {
  const Call call("cudaGraphExecDestroy");
  Machine& machine = Machine::get();
  if (call.refused()) {
    machine.abandon(handle);
    return call.result();
  }
  auto* const executable = reinterpret_cast<Graph*>(handle);
  if (machine.executables.erase(executable) == 0) return Call::done(cudaErrorInvalidValue);
  delete executable;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaGraphDestroy(cudaGraph_t handle) {
  const Call call("cudaGraphDestroy");
  Machine& machine = Machine::get();
  if (call.refused()) {
    machine.abandon(handle);
    return call.result();
  }
  auto* const graph = reinterpret_cast<Graph*>(handle);
  if (machine.graphs.erase(graph) == 0) return Call::done(cudaErrorInvalidValue);
  delete graph;
  return cudaSuccess;
}
