// The arithmetic of an "engine": the plan's ONNX model computed by OpenVINO on the CPU, exactly as swiftdet's own CPU
// path has it compiled, one image at a time, so that both paths see the same network output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "swiftdet/backend.hpp"

namespace gpusim {

class Network {
 public:
  /// The network of these bytes, the same one for the same bytes: tests open thousands of engines of few models.
  static std::shared_ptr<Network> of(std::span<const std::byte> onnx);

  explicit Network(std::vector<std::byte> onnx) : onnx_(std::move(onnx)) {}

  /// The shape of `output` for an input of `shape` [N, 3, H, W].
  [[nodiscard]] std::vector<std::int64_t> output_shape(const std::string& output, std::vector<std::int64_t> shape);
  /// `input` float32 of `shape`; each output of `targets` (name -> float32 memory) is written.
  void run(const float* input, const std::vector<std::int64_t>& shape, const std::map<std::string, float*>& targets);

 private:
  struct Compiled {
    std::shared_ptr<const swiftdet::Backend> engine;
    std::unique_ptr<swiftdet::BackendSession> session;
  };
  Compiled& compiled_for(std::int64_t height, std::int64_t width);

  std::vector<std::byte> onnx_;
  std::mutex mutex_;
  std::map<std::pair<std::int64_t, std::int64_t>, Compiled> compiled_;
};

}  // namespace gpusim
