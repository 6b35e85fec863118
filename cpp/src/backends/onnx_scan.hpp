// A look into the bytes of an ONNX file, for the two things that an engine reading from memory does not tell or check.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace swiftdet {

struct OnnxScan {
  std::vector<std::string> outputs;  ///< names of the graph's outputs, in the order of the file
  /// A tensor whose data is in another file. With no folder to start from, an engine would look for that file relative
  /// to the process's working directory: it must be refused instead.
  std::optional<std::string> external_tensor;
};

/// Walks the protobuf wire format (onnx.proto gives the field numbers); allocates for names only, skips weights.
/// Returns nothing when the bytes are not a well-formed ONNX model; never throws on bad input.
[[nodiscard]] std::optional<OnnxScan> scan_onnx(std::span<const std::byte> model);

}  // namespace swiftdet
