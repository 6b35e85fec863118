// Allocation and copies. Copies are checked against the allocations they touch, and against the current device.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "machine.hpp"

using gpusim::Allocation;
using gpusim::Call;
using gpusim::Machine;
using gpusim::MemoryKind;
using gpusim::Stream;
using gpusim::thread;

namespace {

cudaError_t allocate(const char* name, void** pointer, std::size_t bytes, MemoryKind kind) {
  const Call call(name);
  call.note(std::to_string(bytes));
  if (call.refused()) return call.result();
  return Call::done(Machine::get().allocate(pointer, bytes, kind, thread().device));
}

cudaError_t release(const char* name, void* pointer, MemoryKind kind) {
  const Call call(name);
  if (call.refused()) {
    Machine::get().abandon(pointer);
    return call.result();
  }
  return Call::done(Machine::get().release(pointer, kind));
}

/// Whether [pointer, +bytes) is memory of the current device.
bool on_device(const void* pointer, std::size_t bytes) {
  const Allocation* const allocation = Machine::get().holder(pointer, bytes);
  return allocation != nullptr && allocation->kind == MemoryKind::kDevice && allocation->device == thread().device;
}

/// Whether [pointer, +bytes) may be the host's side of a copy: pageable memory, or wholly inside a pinned block.
bool on_host(const void* pointer, std::size_t bytes) {
  const Machine& machine = Machine::get();
  const Allocation* const allocation = machine.owner(pointer);
  return allocation == nullptr ||
         (allocation->kind == MemoryKind::kPinned && machine.holder(pointer, bytes) != nullptr);
}

bool is_pinned(const void* pointer) { return Machine::get().owner(pointer) != nullptr; }

const char* word(cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToDevice: return "HostToDevice";
    case cudaMemcpyDeviceToHost: return "DeviceToHost";
    case cudaMemcpyDeviceToDevice: return "DeviceToDevice";
    default: return "of another kind";
  }
}

}  // namespace

GPUSIM_API cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return allocate("cudaMalloc", pointer, bytes, MemoryKind::kDevice);
}
GPUSIM_API cudaError_t cudaFree(void* pointer) { return release("cudaFree", pointer, MemoryKind::kDevice); }
GPUSIM_API cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return allocate("cudaMallocHost", pointer, bytes, MemoryKind::kPinned);
}
GPUSIM_API cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned /*flags*/) {
  return allocate("cudaHostAlloc", pointer, bytes, MemoryKind::kPinned);
}
GPUSIM_API cudaError_t cudaFreeHost(void* pointer) { return release("cudaFreeHost", pointer, MemoryKind::kPinned); }

GPUSIM_API cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                                       cudaStream_t handle) {
  const Call call("cudaMemcpyAsync");
  call.note(word(kind));
  call.note(std::to_string(bytes));
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice) {
    return Call::done(cudaErrorInvalidMemcpyDirection);
  }
  const bool to_device = kind != cudaMemcpyDeviceToHost;
  const bool from_device = kind != cudaMemcpyHostToDevice;
  if (!(to_device ? on_device(target, bytes) : on_host(target, bytes))) return Call::done(cudaErrorInvalidValue);
  if (!(from_device ? on_device(source, bytes) : on_host(source, bytes))) return Call::done(cudaErrorInvalidValue);
  Machine& machine = Machine::get();
  if (!from_device && !is_pinned(source) && stream->capture == nullptr) {  // pageable: staged before the call returns
    auto staged =
        std::make_shared<std::vector<char>>(static_cast<const char*>(source), static_cast<const char*>(source) + bytes);
    return Call::done(machine.submit(*stream, {[=] { std::memcpy(target, staged->data(), bytes); }}));
  }
  // Until somebody waits, the host finds garbage where the result will be.
  if (!to_device && stream->capture == nullptr) std::memset(target, 0xCD, bytes);
  machine.submit(*stream, {[=] { std::memcpy(target, source, bytes); }});
  if (!to_device && !is_pinned(target) && stream->capture == nullptr) machine.drain(*stream);  // CUDA does as much
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t handle) {
  const Call call("cudaMemsetAsync");
  call.note(std::to_string(bytes));
  if (call.refused()) return call.result();
  cudaError_t error = cudaSuccess;
  Stream* const stream = gpusim::stream_of(handle, error);
  if (stream == nullptr) return Call::done(error);
  if (!on_device(target, bytes)) return Call::done(cudaErrorInvalidValue);
  return Call::done(Machine::get().submit(*stream, {[=] { std::memset(target, value, bytes); }}));
}

GPUSIM_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const Call call("cudaPointerGetAttributes");
  if (call.refused()) return call.result();
  const Allocation* const allocation = Machine::get().owner(pointer);
  *attributes = {};
  attributes->type = cudaMemoryTypeUnregistered;
  if (allocation == nullptr) return cudaSuccess;
  const bool device = allocation->kind == MemoryKind::kDevice;
  auto* const plain =
      const_cast<void*>(pointer);  // NOLINT(cppcoreguidelines-pro-type-const-cast): CUDA's own signature
  attributes->type = device ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
  attributes->device = allocation->device;
  attributes->devicePointer = plain;
  attributes->hostPointer = device ? nullptr : plain;
  return cudaSuccess;
}

GPUSIM_API cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Call call("cudaMemGetInfo");
  if (call.refused()) return call.result();
  *total_bytes = std::size_t{16} << 30U;
  std::size_t used = 0;
  for (const auto& [start, allocation] : Machine::get().allocations) {
    if (allocation.kind == MemoryKind::kDevice && allocation.device == thread().device) used += allocation.mapped;
  }
  *free_bytes = *total_bytes - used;
  return cudaSuccess;
}
