#include "control.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "machine.hpp"

using gpusim::Call;
using gpusim::Machine;

namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

std::size_t copy_text(const std::string& text, char* target, std::size_t capacity) {
  if (capacity > 0) {
    const std::size_t count = std::min(capacity - 1, text.size());
    std::memcpy(target, text.data(), count);
    target[count] = '\0';
  }
  return text.size() + 1;
}

}  // namespace

GPUSIM_API cudaError_t gpusim_enqueue(cudaStream_t handle, const char* what, void (*run)(void*), void (*release)(void*),
                                      void* user) {
  const std::shared_ptr<void> job(user, release);
  const Call call("enqueue");
  call.note(what);
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  gpusim::Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  return Call::done(Machine::get().submit(*stream, {[job, run] { run(job.get()); }}));
}

GPUSIM_API void gpusim_raise(int error) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  machine.raise(static_cast<cudaError_t>(error));
}

GPUSIM_API void gpusim_set_eager(int eager) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  machine.eager = eager != 0;
}

GPUSIM_API void gpusim_fail(const char* name, long nth, int error, int sticky) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  machine.failed = false;
  machine.call_failure = {name == nullptr ? "" : name, nth, static_cast<cudaError_t>(error), sticky != 0};
}

GPUSIM_API void gpusim_fail_work(long nth, int error, int sticky) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  machine.failed = false;
  machine.work_failure = {"", nth, static_cast<cudaError_t>(error), sticky != 0};
}

GPUSIM_API int gpusim_failed(void) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  return machine.failed ? 1 : 0;
}

GPUSIM_API void gpusim_heal(void) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  machine.call_failure = {};
  machine.work_failure = {};
  machine.lost.clear();
  for (int device = 0; device < machine.device_count; ++device) machine.take_work_error(device);
}

GPUSIM_API std::size_t gpusim_log(char* text, std::size_t capacity) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  std::string all;
  for (const std::string& line : machine.log) all += line + '\n';
  return copy_text(all, text, capacity);
}

GPUSIM_API void gpusim_clear_log(void) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  machine.log.clear();
  machine.calls = 0;
}

GPUSIM_API long gpusim_calls(void) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  return machine.calls;
}

GPUSIM_API std::size_t gpusim_live(char* text, std::size_t capacity) {
  Machine& machine = Machine::get();
  const Lock lock(machine.mutex);
  std::string all;
  const auto add = [&](const void* resource, const std::string& what) {
    if (machine.abandoned.count(resource) == 0) all += what + '\n';
  };
  for (const auto* const stream : machine.streams) add(stream, "stream of device " + std::to_string(stream->device));
  for (const auto* const event : machine.events) add(event, "event of device " + std::to_string(event->device));
  for (const auto* const graph : machine.graphs) add(graph, "graph");
  for (const auto* const executable : machine.executables) add(executable, "executable graph");
  for (const auto& [start, allocation] : machine.allocations) {
    const bool device = allocation.kind == gpusim::MemoryKind::kDevice;
    add(start, std::to_string(allocation.bytes) + (device ? " bytes of device " : " pinned bytes of device ") +
                   std::to_string(allocation.device));
  }
  return copy_text(all, text, capacity);
}
