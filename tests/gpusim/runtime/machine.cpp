#include "machine.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace gpusim {
namespace {

constexpr unsigned char kFresh = 0xCD;  // nothing may rely on zeros

std::size_t round_up(std::size_t value, std::size_t unit) { return (value + unit - 1) / unit * unit; }

int number(const char* variable, int otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoi(text);
}

[[noreturn]] void stop(const char* why) {
  std::fprintf(stderr, "gpusim: %s\n", why);
  std::abort();
}

}  // namespace

Machine::Machine()
    : device_count(number("GPUSIM_DEVICES", 2)),
      eager(number("GPUSIM_EAGER", 0) != 0),
      open_(static_cast<std::size_t>(device_count) + 1) {}

Machine& Machine::get() {
  static auto* const machine = new Machine;  // never destroyed: static objects of others may still call
  return *machine;
}

Thread& thread() {
  static thread_local Thread state;
  return state;
}

cudaError_t Machine::submit(Stream& stream, Work work) {
  if (stream.capture != nullptr) {
    stream.capture->work.push_back(std::move(work));
    return cudaSuccess;
  }
  stream.queue.push_back(std::move(work));
  if (eager) drain(stream);
  return cudaSuccess;
}

void Machine::drain(Stream& stream) {
  while (!stream.queue.empty()) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (lost.count(stream.device) != 0) continue;  // a lost device runs nothing more
    if (work_failure.countdown > 0 && --work_failure.countdown == 0) {
      failed = true;
      work_error_[stream.device] = work_failure.error;
      if (work_failure.sticky) lost[stream.device] = work_failure.error;
      continue;
    }
    const int before = running_on_;
    running_on_ = stream.device;
    if (work.on_device) open(stream.device);
    work.run();
    if (work.on_device) close(stream.device);
    running_on_ = before;
  }
}

void Machine::drain_all() {
  for (Stream* const stream : streams) drain(*stream);
}

void Machine::reach(const Mark& mark) {
  if (!mark.done && streams.count(mark.stream) != 0) drain(*mark.stream);
}

cudaError_t Machine::take_work_error(int device) {
  const auto found = work_error_.find(device);
  if (found == work_error_.end()) return lost.count(device) != 0 ? lost.at(device) : cudaSuccess;
  const cudaError_t error = found->second;
  work_error_.erase(found);
  return error;
}

void Machine::raise(cudaError_t error) {
  if (running_on_ >= 0) work_error_[running_on_] = error;
}

cudaError_t Machine::forbid_in_capture() {
  // Relaxed threads may; thread-local captures forbid their own thread, global ones every thread.
  if (thread().capture_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  for (Stream* const stream : streams) {
    Capture* const capture = stream->capture.get();
    if (capture == nullptr || capture->mode == cudaStreamCaptureModeRelaxed) continue;
    const bool own = capture->thread == std::this_thread::get_id();
    if (own || (capture->mode == cudaStreamCaptureModeGlobal && thread().capture_mode == cudaStreamCaptureModeGlobal)) {
      capture->broken = true;
      error = cudaErrorStreamCaptureUnsupported;
    }
  }
  return error;
}

// Device memory has no access rights unless that device works: a host that follows a device pointer faults, and so does
// work of another device.
void Machine::open(int device) {
  if (open_[static_cast<std::size_t>(device)]++ != 0) return;
  for (const auto& [start, allocation] : allocations) {
    if (allocation.kind == MemoryKind::kDevice && allocation.device == device) {
      if (mprotect(start, allocation.mapped, PROT_READ | PROT_WRITE) != 0) stop("mprotect failed");
    }
  }
}

void Machine::close(int device) {
  if (--open_[static_cast<std::size_t>(device)] != 0) return;
  for (const auto& [start, allocation] : allocations) {
    if (allocation.kind == MemoryKind::kDevice && allocation.device == device) {
      if (mprotect(start, allocation.mapped, PROT_NONE) != 0) stop("mprotect failed");
    }
  }
}

cudaError_t Machine::allocate(void** pointer, std::size_t bytes, MemoryKind kind, int device) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (const cudaError_t error = forbid_in_capture(); error != cudaSuccess) return error;
  if (bytes == 0) return cudaSuccess;
  if (bytes > std::size_t{8} << 30U) return cudaErrorMemoryAllocation;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t mapped = round_up(bytes, page);
  void* const start = mmap(nullptr, mapped + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return cudaErrorMemoryAllocation;
  auto* const base = static_cast<char*>(start);
  std::memset(base, kFresh, mapped);
  if (mprotect(base + mapped, page, PROT_NONE) != 0) stop("mprotect failed");
  if (kind == MemoryKind::kDevice && open_[static_cast<std::size_t>(device)] == 0) {
    if (mprotect(base, mapped, PROT_NONE) != 0) stop("mprotect failed");
  }
  allocations[base] = {bytes, mapped, kind, device};
  *pointer = base;
  return cudaSuccess;
}

cudaError_t Machine::release(void* pointer, MemoryKind kind) {
  if (const cudaError_t error = forbid_in_capture(); error != cudaSuccess) return error;
  if (pointer == nullptr) return cudaSuccess;
  drain_all();  // CUDA waits for the device before it frees
  const auto found = allocations.find(static_cast<char*>(pointer));
  if (found == allocations.end() || found->second.kind != kind) return cudaErrorInvalidValue;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  munmap(pointer, found->second.mapped + page);
  allocations.erase(found);
  return cudaSuccess;
}

const Allocation* Machine::holder(const void* pointer, std::size_t bytes) const {
  auto* const place =
      const_cast<char*>(static_cast<const char*>(pointer));  // NOLINT(cppcoreguidelines-pro-type-const-cast): map key
  auto next = allocations.upper_bound(place);
  if (next == allocations.begin()) return nullptr;
  const auto& [start, allocation] = *--next;
  const auto offset = static_cast<std::size_t>(place - start);
  return offset < allocation.bytes && bytes <= allocation.bytes - offset ? &allocation : nullptr;
}

Call::Call(const char* name, Kind kind) : lock_(Machine::get().mutex) {
  Machine& machine = Machine::get();
  machine.log.emplace_back(name);
  if (kind == Kind::kQuery) return;
  ++machine.calls;
  Machine::Failure& failure = machine.call_failure;
  const bool counted = failure.name.empty() || failure.name == name;
  if (failure.countdown > 0 && counted && --failure.countdown == 0) {
    machine.failed = true;
    if (failure.sticky) machine.lost[thread().device] = failure.error;
    error_ = done(failure.error);
    return;
  }
  const auto lost = machine.lost.find(thread().device);
  if (kind == Kind::kNormal && lost != machine.lost.end()) error_ = done(lost->second);
}

void Call::note(const std::string& text) const { Machine::get().log.back() += ' ' + text; }

cudaError_t Call::done(cudaError_t error) {
  if (error != cudaSuccess) thread().last_error = error;
  return error;
}

Stream* stream_of(cudaStream_t handle, cudaError_t& error) {
  Machine& machine = Machine::get();
  auto* const stream = reinterpret_cast<Stream*>(handle);
  // The default streams are refused as well: nothing of the product may use them, they serialise all others.
  if (machine.streams.count(stream) == 0) {
    error = cudaErrorInvalidResourceHandle;
    return nullptr;
  }
  if (stream->device != thread().device) {
    error = cudaErrorInvalidResourceHandle;
    return nullptr;
  }
  error = cudaSuccess;
  return stream;
}

}  // namespace gpusim
