#include "network.hpp"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "swiftdet/openvino.hpp"

namespace gpusim {

std::shared_ptr<Network> Network::of(std::span<const std::byte> onnx) {
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<Network>> known;
  const std::string content(reinterpret_cast<const char*>(onnx.data()), onnx.size());
  const std::lock_guard lock(mutex);
  std::shared_ptr<Network>& network = known[content];
  if (network == nullptr) network = std::make_shared<Network>(std::vector(onnx.begin(), onnx.end()));
  return network;
}

Network::Compiled& Network::compiled_for(std::int64_t height, std::int64_t width) {
  const auto found = compiled_.find({height, width});
  if (found != compiled_.end()) return found->second;
  const char* const library = std::getenv("GPUSIM_OPENVINO_LIB");
  if (library == nullptr) throw std::runtime_error("GPUSIM_OPENVINO_LIB must name OpenVINO's library folder");
  swiftdet::openvino::CompileOptions options;
  options.input_shape = swiftdet::Shape{1, 3, height, width};
  Compiled compiled;
  compiled.engine = swiftdet::openvino::Runtime::load(library)->compile(onnx_, {}, options);
  compiled.session = compiled.engine->create_session(options.input_shape);
  return compiled_[{height, width}] = std::move(compiled);
}

std::vector<std::int64_t> Network::output_shape(const std::string& output, std::vector<std::int64_t> shape) {
  const std::lock_guard lock(mutex_);
  for (const swiftdet::Port& port : compiled_for(shape[2], shape[3]).engine->outputs()) {
    if (port.name != output) continue;
    std::vector<std::int64_t> dims(port.shape.begin(), port.shape.end());
    dims[0] = shape[0];
    return dims;
  }
  throw std::runtime_error("the network has no output " + output);
}

void Network::run(const float* input, const std::vector<std::int64_t>& shape,
                  const std::map<std::string, float*>& targets) {
  const std::lock_guard lock(mutex_);
  Compiled& compiled = compiled_for(shape[2], shape[3]);
  const swiftdet::MutableTensorView slot = compiled.session->input();
  const auto volume = static_cast<std::size_t>(slot.shape.volume());
  for (std::size_t image = 0; image < static_cast<std::size_t>(shape[0]); ++image) {
    std::memcpy(slot.data, input + image * volume, volume * sizeof(float));
    compiled.session->start();
    compiled.session->wait();
    const auto results = compiled.session->outputs();
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto target = targets.find(compiled.engine->outputs()[i].name);
      if (target == targets.end()) continue;
      const auto count = static_cast<std::size_t>(results[i].shape.volume());
      std::memcpy(target->second + image * count, results[i].data, count * sizeof(float));
    }
  }
}

}  // namespace gpusim
