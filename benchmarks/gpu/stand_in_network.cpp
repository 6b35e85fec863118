#include "stand_in_network.hpp"

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "swiftdet/base/error.hpp"

namespace swiftdet::bench {
namespace {

Shape output_shape(std::int64_t batch, NetworkSize size) { return {batch, kValues, size.predictions()}; }

class GpuNetworkContext final : public GpuContext {
 public:
  GpuNetworkContext(NetworkSize size, std::int32_t batch)
      : size_(size), batch_(batch), shapes_{output_shape(batch, size)} {}

  [[nodiscard]] const std::vector<Shape>& output_shapes() const noexcept override { return shapes_; }
  void set_input_address(void* d_input) override { d_input_ = static_cast<const float*>(d_input); }
  void set_output_address(std::size_t /*index*/, void* d_output) override { d_output_ = static_cast<float*>(d_output); }
  void enqueue(cuda::StreamHandle stream) override {
    const cudaError_t status = launch_network(d_input_, d_output_, size_, batch_, stream);
    if (status != cudaSuccess) throw BackendError(std::string("stand-in network: ") + cudaGetErrorString(status));
  }

 private:
  NetworkSize size_;
  std::int32_t batch_;
  std::vector<Shape> shapes_;
  const float* d_input_ = nullptr;
  float* d_output_ = nullptr;
};

class GpuNetwork final : public GpuEngine {
 public:
  GpuNetwork(int device, NetworkSize size)
      : device_(device),
        size_(size),
        input_{"images", {-1, 3, size.height, size.width}},
        outputs_{{"output", output_shape(-1, size)}} {}

  [[nodiscard]] int device() const noexcept override { return device_; }
  [[nodiscard]] const GpuPort& input() const noexcept override { return input_; }
  [[nodiscard]] const std::vector<GpuPort>& outputs() const noexcept override { return outputs_; }
  [[nodiscard]] BatchRange batch_range(Size size) const noexcept override {
    return size == Size{size_.height, size_.width} ? BatchRange{1, 16} : BatchRange{};
  }
  [[nodiscard]] std::vector<Profile> profiles() const override {
    return {{{1, 3, size_.height, size_.width}, {16, 3, size_.height, size_.width}}};
  }
  [[nodiscard]] std::size_t context_bytes() const noexcept override { return 0; }
  [[nodiscard]] std::string description() const override { return "stand-in network"; }
  [[nodiscard]] std::unique_ptr<GpuContext> create_context(const Shape& shape,
                                                           cuda::StreamHandle /*stream*/) const override {
    return std::make_unique<GpuNetworkContext>(size_, static_cast<std::int32_t>(shape[0]));
  }

 private:
  int device_;
  NetworkSize size_;
  GpuPort input_;
  std::vector<GpuPort> outputs_;
};

class CpuNetworkSession final : public BackendSession {
 public:
  CpuNetworkSession(NetworkSize size, const Shape& shape)
      : size_(size), values_(static_cast<std::size_t>(shape.volume()) + 16), shape_(shape) {
    const Shape output = output_shape(shape[0], size);
    output_values_.resize(static_cast<std::size_t>(output.volume()));
    outputs_ = {{output_values_.data(), output}};
  }

  [[nodiscard]] MutableTensorView input() override {
    void* aligned = values_.data();
    std::size_t room = values_.size() * sizeof(float);
    return {static_cast<float*>(std::align(64, 64, aligned, room)), shape_};
  }
  void start() override {}
  void wait() override {
    const float* const pixels = input().data;
    const int predictions = size_.predictions();
    float* out = output_values_.data();
    for (std::int64_t image = 0; image < shape_[0]; ++image) {
      for (int value = 0; value < kValues; ++value) {
        for (int cell = 0; cell < predictions; ++cell) {
          *out++ = network_value(pixels + image * 3 * size_.height * size_.width, size_, cell, value);
        }
      }
    }
  }
  [[nodiscard]] std::span<const TensorView> outputs() const override { return outputs_; }

 private:
  NetworkSize size_;
  std::vector<float> values_;
  Shape shape_;
  std::vector<float> output_values_;
  std::vector<TensorView> outputs_;
};

class CpuNetwork final : public Backend {
 public:
  explicit CpuNetwork(NetworkSize size)
      : size_(size), input_{"images", {-1, 3, size.height, size.width}}, outputs_{{"output", output_shape(-1, size)}} {}

  [[nodiscard]] const Port& input() const noexcept override { return input_; }
  [[nodiscard]] const std::vector<Port>& outputs() const noexcept override { return outputs_; }
  [[nodiscard]] int preferred_sessions() const noexcept override { return 1; }
  [[nodiscard]] std::string description() const override { return "stand-in network"; }
  [[nodiscard]] std::unique_ptr<BackendSession> create_session(const Shape& shape) const override {
    return std::make_unique<CpuNetworkSession>(size_, shape);
  }

 private:
  NetworkSize size_;
  Port input_;
  std::vector<Port> outputs_;
};

}  // namespace

ops::HeadSpec network_head() {
  ops::HeadSpec head;
  head.layout = ops::HeadLayout::kColumns;
  head.num_classes = kClasses;
  head.outputs = {"output"};
  return head;
}

std::shared_ptr<const GpuEngine> gpu_network(int device, NetworkSize size) {
  return std::make_shared<const GpuNetwork>(device, size);
}

std::shared_ptr<const Backend> cpu_network(NetworkSize size) { return std::make_shared<const CpuNetwork>(size); }

}  // namespace swiftdet::bench
