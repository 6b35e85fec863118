// The memory layout of DLPack, as far as this package reads it: the part of its ABI that version 1 keeps stable.
// Source: the DLPack specification, C API and Python specification, version 1.0.
#pragma once

#include <cstdint>

namespace swiftdet::python::dlpack {

inline constexpr std::uint32_t kMajor = 1;  ///< the versioned form that is understood

struct Device {
  std::int32_t type;  ///< 1: CPU, 2: CUDA, 13: CUDA, managed; others are not for this package
  std::int32_t index;
};

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

/// Borrowed: what the pointers name lives until the deleter of the managed form is called.
struct Tensor {
  void* data;
  Device device;
  std::int32_t rank;
  DataType type;
  std::int64_t* shape;
  std::int64_t* strides;  ///< in elements; null: packed, the last axis fastest
  std::uint64_t byte_offset;
};

/// In capsules of the name "dltensor".
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);  ///< may be null
};

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

/// In capsules of the name "dltensor_versioned". Everything up to `flags` is there in every version.
struct ManagedVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned*);  ///< may be null
  std::uint64_t flags;
  Tensor tensor;
};

}  // namespace swiftdet::python::dlpack
