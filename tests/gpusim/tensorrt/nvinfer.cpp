// The stand-in for libnvinfer.so.10: NVIDIA's own interface, implemented over a plan that OpenVINO computes.
//
// It is strict where TensorRT is undefined: objects destroyed in the wrong order, addresses that are not set, a shape
// that was never run before it is captured, and calls on another device than the engine's end the test or the call.
// So does a plan that is read while it may still bring code for the host.
#include <NvInferRuntime.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "control.hpp"
#include "network.hpp"
#include "plan.hpp"
#include "runtime/control.hpp"

using namespace nvinfer1;  // NOLINT(google-build-using-namespace): the generated header is written for it

namespace {

[[noreturn]] void unsupported(const char* what) {
  std::fprintf(stderr, "gpusim: the stand-in TensorRT has no %s\n", what);
  std::abort();
}

[[noreturn]] void misuse(const char* what) {
  std::fprintf(stderr, "gpusim: %s\n", what);
  std::abort();
}

}  // namespace

#include "unsupported.hpp"

namespace gpusim {
namespace {

std::atomic<long> fail_in = 0;
std::atomic<bool> has_failed = false;
std::atomic<long> calls = 0;
std::atomic<int> live = 0;
std::atomic<long> enqueues = 0;
std::atomic<long> context_bytes = 0;

void say(ILogger& logger, ILogger::Severity severity, const std::string& text) { logger.log(severity, text.c_str()); }

/// True when this call is the one that shall fail; says so as TensorRT would.
bool fails(ILogger& logger, const char* call) {
  ++calls;
  if (fail_in > 0 && --fail_in == 0) {
    has_failed = true;
    say(logger, ILogger::Severity::kERROR, std::string(call) + ": injected failure");
    return true;
  }
  return false;
}

DataType as_type(const std::string& type) {
  if (type == "f16") return DataType::kHALF;
  if (type == "i32") return DataType::kINT32;
  if (type == "i64") return DataType::kINT64;
  return DataType::kFLOAT;
}

Dims as_dims(const std::vector<std::int64_t>& shape) {
  Dims dims{};
  dims.nbDims = static_cast<std::int32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), static_cast<std::int64_t*>(dims.d));
  return dims;
}

constexpr Dims kNoDims{-1, {}};

class EngineBody;
class ContextBody;
class RuntimeBody;

// The public classes own the bodies: `delete` on them frees both.
class Runtime final : public IRuntime {
 public:
  explicit Runtime(ILogger& logger);
  ~Runtime() noexcept override;
  std::unique_ptr<RuntimeBody> body;
};

class Engine final : public ICudaEngine {
 public:
  Engine(RuntimeBody& runtime, const Plan& plan);
  ~Engine() noexcept override;
  std::unique_ptr<EngineBody> body;
};

class Context final : public IExecutionContext {
 public:
  explicit Context(Engine& engine);
  ~Context() noexcept override;
  std::unique_ptr<ContextBody> body;
};

class RuntimeBody final : public UnsupportedVRuntime {
 public:
  RuntimeBody(IRuntime* self, ILogger& given) : logger(given), self_(self) {}

  IRuntime* getPImpl() noexcept override { return self_; }
  ILogger* getLogger() const noexcept override { return &logger; }
  void setEngineHostCodeAllowed(bool allowed) noexcept override { host_code_allowed_ = allowed; }
  bool getEngineHostCodeAllowed() const noexcept override { return host_code_allowed_; }
  ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept override;

  ILogger& logger;
  int engines = 0;

 private:
  IRuntime* self_;
  bool host_code_allowed_ = true;  // not TensorRT's default: who relies on that one would not notice a change
};

class EngineBody final : public UnsupportedVCudaEngine {
 public:
  EngineBody(Engine* self, RuntimeBody& given, const Plan& plan)
      : runtime(given),
        tensors(plan.tensors),
        profiles(plan.profiles),
        captures(plan.captures),
        network(Network::of(plan.onnx)),
        self_(self) {
    cudaGetDevice(&device);
  }

  [[nodiscard]] const PlanTensor* find(const char* name) const {
    for (const PlanTensor& tensor : tensors) {
      if (tensor.name == name) return &tensor;
    }
    say(runtime.logger, ILogger::Severity::kERROR, std::string("there is no tensor named ") + name);
    return nullptr;
  }

  ICudaEngine* getPImpl() noexcept override { return self_; }
  char const* getName() const noexcept override { return "gpusim"; }
  int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(tensors.size()); }
  char const* getIOTensorName(int32_t index) const noexcept override {
    return index >= 0 && index < getNbIOTensors() ? tensors[static_cast<std::size_t>(index)].name.c_str() : nullptr;
  }
  TensorIOMode getTensorIOMode(char const* name) const noexcept override {
    const PlanTensor* const tensor = find(name);
    if (tensor == nullptr) return TensorIOMode::kNONE;
    return tensor->is_input ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
  }
  Dims getTensorShape(char const* name) const noexcept override {
    const PlanTensor* const tensor = find(name);
    return tensor == nullptr ? kNoDims : as_dims(tensor->shape);
  }
  DataType getTensorDataType(char const* name) const noexcept override {
    const PlanTensor* const tensor = find(name);
    return tensor == nullptr ? DataType::kFLOAT : as_type(tensor->type);
  }
  TensorFormat getTensorFormat(char const* /*name*/) const noexcept override { return TensorFormat::kLINEAR; }
  TensorLocation getTensorLocation(char const* /*name*/) const noexcept override { return TensorLocation::kDEVICE; }
  int64_t getDeviceMemorySizeV2() const noexcept override { return context_bytes; }
  int32_t getNbOptimizationProfiles() const noexcept override { return static_cast<int32_t>(profiles.size()); }
  Dims getProfileShape(char const* name, int32_t index, OptProfileSelector select) const noexcept override {
    const PlanTensor* const tensor = find(name);
    if (tensor == nullptr || !tensor->is_input || index < 0 || index >= getNbOptimizationProfiles()) return kNoDims;
    const Profile& profile = profiles[static_cast<std::size_t>(index)];
    if (select == OptProfileSelector::kMIN) return as_dims(profile.least);
    return as_dims(select == OptProfileSelector::kOPT ? profile.best : profile.most);
  }
  IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy strategy) noexcept override;

  RuntimeBody& runtime;
  std::vector<PlanTensor> tensors;
  std::vector<Profile> profiles;
  bool captures;
  std::shared_ptr<Network> network;
  int device = 0;
  int contexts = 0;

 private:
  Engine* self_;
};

/// A tensor in device memory; the network computes in float32 whatever its ends are.
struct End {
  void* address = nullptr;
  bool half = false;
  std::size_t count = 0;
  std::vector<float> values{};
};

/// What enqueueV3 leaves on the stream.
struct Job {
  std::shared_ptr<Network> network;
  End input;
  std::vector<std::int64_t> shape;
  std::map<std::string, End> outputs;

  static void run(void* user) {
    auto& job = *static_cast<Job*>(user);
    try {
      const auto* const halves = static_cast<const _Float16*>(job.input.address);
      if (job.input.half) job.input.values.assign(halves, halves + job.input.count);
      std::map<std::string, float*> targets;
      for (auto& [name, end] : job.outputs) {
        end.values.resize(end.half ? end.count : 0);
        targets[name] = end.half ? end.values.data() : static_cast<float*>(end.address);
      }
      job.network->run(job.input.half ? job.input.values.data() : static_cast<const float*>(job.input.address),
                       job.shape, targets);
      for (const auto& [name, end] : job.outputs) {
        std::transform(end.values.begin(), end.values.end(), static_cast<_Float16*>(end.address),
                       [](float value) { return static_cast<_Float16>(value); });
      }
    } catch (const std::exception& e) {
      misuse(e.what());
    }
  }
  static void release(void* user) { delete static_cast<Job*>(user); }
};

class ContextBody final : public UnsupportedVExecutionContext {
 public:
  ContextBody(Context* self, Engine& engine) : engine_(*engine.body), public_engine_(engine), self_(self) {}
  ~ContextBody() override { cudaFree(activations); }

  IExecutionContext* getPImpl() noexcept override { return self_; }
  ICudaEngine const& getEngine() const noexcept override { return public_engine_; }
  int32_t getOptimizationProfile() const noexcept override { return profile_; }
  bool setOptimizationProfileAsync(int32_t index, cudaStream_t /*stream*/) noexcept override {
    if (fails(engine_.runtime.logger, "setOptimizationProfileAsync")) return false;
    if (index < 0 || index >= engine_.getNbOptimizationProfiles()) return error("no such optimization profile");
    profile_ = index;
    shape_.clear();
    return true;
  }
  bool setInputShape(char const* name, Dims const& dims) noexcept override;
  Dims getTensorShape(char const* name) const noexcept override;
  bool setTensorAddress(char const* name, void* address) noexcept override;
  bool setInputTensorAddress(char const* name, void const* address) noexcept override {
    return setTensorAddress(name,
                            const_cast<void*>(address));  // NOLINT(cppcoreguidelines-pro-type-const-cast): as TensorRT
  }
  bool setOutputTensorAddress(char const* name, void* address) noexcept override {
    return setTensorAddress(name, address);
  }
  bool allInputDimensionsSpecified() const noexcept override { return !shape_.empty(); }
  int32_t inferShapes(int32_t /*count*/, char const** /*names*/) noexcept override { return shape_.empty() ? 1 : 0; }
  bool enqueueV3(cudaStream_t stream) noexcept override;

  void* activations = nullptr;

 private:
  bool error(const std::string& text) const {
    say(engine_.runtime.logger, ILogger::Severity::kERROR, text);
    return false;
  }

  EngineBody& engine_;
  ICudaEngine& public_engine_;
  Context* self_;
  int32_t profile_ = 0;
  std::vector<std::int64_t> shape_;
  std::map<std::string, void*> addresses_;
  std::set<std::vector<std::int64_t>> warm_;  ///< shapes that have run uncaptured
};

bool ContextBody::setInputShape(char const* name, Dims const& dims) noexcept {
  if (fails(engine_.runtime.logger, "setInputShape")) return false;
  const PlanTensor* const tensor = engine_.find(name);
  if (tensor == nullptr || !tensor->is_input) return false;
  const Profile& profile = engine_.profiles[static_cast<std::size_t>(profile_)];
  std::vector<std::int64_t> shape(static_cast<const std::int64_t*>(dims.d), dims.d + std::max(dims.nbDims, 0));
  bool fits = shape.size() == tensor->shape.size();
  for (std::size_t axis = 0; fits && axis < shape.size(); ++axis) {
    fits = shape[axis] >= profile.least[axis] && shape[axis] <= profile.most[axis];
  }
  if (!fits) return error("setInputShape: the shape is outside the optimization profile");
  shape_ = std::move(shape);
  return true;
}

Dims ContextBody::getTensorShape(char const* name) const noexcept {
  const PlanTensor* const tensor = engine_.find(name);
  if (tensor == nullptr) return kNoDims;
  if (shape_.empty()) return as_dims(tensor->shape);
  if (tensor->is_input) return as_dims(shape_);
  try {
    return as_dims(engine_.network->output_shape(tensor->name, shape_));
  } catch (const std::exception& e) {
    error(e.what());
    return kNoDims;
  }
}

bool ContextBody::setTensorAddress(char const* name, void* address) noexcept {
  if (fails(engine_.runtime.logger, "setTensorAddress")) return false;
  if (engine_.find(name) == nullptr) return false;
  if (reinterpret_cast<std::uintptr_t>(address) % 256 != 0) return error("setTensorAddress: not aligned to 256 bytes");
  addresses_[name] = address;
  return true;
}

bool ContextBody::enqueueV3(cudaStream_t stream) noexcept {
  ++enqueues;
  if (fails(engine_.runtime.logger, "enqueueV3")) return false;
  int device = -1;
  cudaGetDevice(&device);
  if (device != engine_.device) return error("enqueueV3: the current device is not the engine's");
  if (shape_.empty()) return error("enqueueV3: the input's shape is not set");
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(stream, &status) != cudaSuccess) return error("enqueueV3: bad stream");
  if (status != cudaStreamCaptureStatusNone && (!engine_.captures || warm_.count(shape_) == 0)) {
    cudaStreamSynchronize(stream);  // spoils the capture, as TensorRT does when it has to allocate or to wait
    return error("enqueueV3: operation not permitted when stream is capturing");
  }
  auto job = std::make_unique<Job>();
  job->network = engine_.network;
  job->shape = shape_;
  for (const PlanTensor& tensor : engine_.tensors) {
    const auto address = addresses_.find(tensor.name);
    if (address == addresses_.end() || address->second == nullptr)
      return error("enqueueV3: no address for " + tensor.name);
    const Dims dims = getTensorShape(tensor.name.c_str());
    std::size_t count = 1;
    for (std::int32_t axis = 0; axis < dims.nbDims; ++axis) count *= static_cast<std::size_t>(dims.d[axis]);
    const End end{address->second, tensor.type == "f16", count};
    (tensor.is_input ? job->input : job->outputs[tensor.name]) = end;
  }
  if (gpusim_enqueue(stream, "network", &Job::run, &Job::release, job.release()) != cudaSuccess) {
    return error("enqueueV3: the stream refused");
  }
  if (status == cudaStreamCaptureStatusNone) warm_.insert(shape_);
  return true;
}

IExecutionContext* EngineBody::createExecutionContext(ExecutionContextAllocationStrategy /*strategy*/) noexcept {
  if (fails(runtime.logger, "createExecutionContext")) return nullptr;
  int current = -1;
  cudaGetDevice(&current);
  if (current != device) {
    say(runtime.logger, ILogger::Severity::kERROR, "createExecutionContext: the current device is not the engine's");
    return nullptr;
  }
  auto context = std::make_unique<Context>(*self_);
  if (cudaMalloc(&context->body->activations, 4096) != cudaSuccess) {
    say(runtime.logger, ILogger::Severity::kERROR, "createExecutionContext: out of device memory");
    return nullptr;
  }
  return context.release();
}

ICudaEngine* RuntimeBody::deserializeCudaEngine(void const* blob, std::size_t size) noexcept {
  if (fails(logger, "deserializeCudaEngine")) return nullptr;
  if (host_code_allowed_) {
    say(logger, ILogger::Severity::kERROR, "deserializeCudaEngine: the plan may run code on the host");
    return nullptr;
  }
  try {
    const Plan plan = read_plan({static_cast<const std::byte*>(blob), size});
    say(logger, ILogger::Severity::kINFO, "Loaded engine size: " + std::to_string(size) + " bytes");
    say(logger, ILogger::Severity::kVERBOSE, "nobody wants to know this");
    if (plan.profiles.size() > 1) say(logger, ILogger::Severity::kWARNING, "several optimization profiles");
    return new Engine(*this, plan);
  } catch (const std::exception& e) {
    say(logger, ILogger::Severity::kERROR, std::string("deserializeCudaEngine: Serialization assertion ") + e.what());
    return nullptr;
  }
}

Runtime::Runtime(ILogger& logger) : body(std::make_unique<RuntimeBody>(this, logger)) {
  mImpl = body.get();
  ++live;
}
Runtime::~Runtime() noexcept {
  if (body->engines != 0) misuse("a TensorRT runtime was destroyed before its engines");
  --live;
}

Engine::Engine(RuntimeBody& runtime, const Plan& plan) : body(std::make_unique<EngineBody>(this, runtime, plan)) {
  mImpl = body.get();
  ++runtime.engines;
  ++live;
}
Engine::~Engine() noexcept {
  if (body->contexts != 0) misuse("a TensorRT engine was destroyed before its execution contexts");
  --body->runtime.engines;
  --live;
}

Context::Context(Engine& engine) : body(std::make_unique<ContextBody>(this, engine)) {
  mImpl = body.get();
  ++engine.body->contexts;
  ++live;
}
Context::~Context() noexcept {
  const auto& engine = static_cast<const Engine&>(body->getEngine());
  --engine.body->contexts;
  --live;
}

/// The version that this library says it has: GPUSIM_TRT_VERSION, to be another release's.
int version() {
  const char* const text = std::getenv("GPUSIM_TRT_VERSION");
  return text == nullptr ? NV_TENSORRT_VERSION : std::atoi(text);
}

}  // namespace
}  // namespace gpusim

GPUSIM_TRT_API void gpusim_trt_fail(long nth) {
  gpusim::fail_in = nth;
  gpusim::has_failed = false;
  gpusim::calls = 0;
}
GPUSIM_TRT_API int gpusim_trt_failed(void) { return gpusim::has_failed ? 1 : 0; }
GPUSIM_TRT_API long gpusim_trt_calls(void) { return gpusim::calls; }
GPUSIM_TRT_API int gpusim_trt_live(void) { return gpusim::live; }
GPUSIM_TRT_API void gpusim_trt_set_context_bytes(long bytes) { gpusim::context_bytes = bytes; }
GPUSIM_TRT_API long gpusim_trt_enqueues(void) { return gpusim::enqueues; }

GPUSIM_TRT_API std::int32_t getInferLibVersion() noexcept { return gpusim::version(); }

GPUSIM_TRT_API void* createInferRuntime_INTERNAL(void* logger, std::int32_t version) noexcept {
  // What the real libraries were seen to do: a client of another major release crashes in here, and without a driver
  // the result is a pointer that is neither null nor an object.
  if (version / 10000 != gpusim::version() / 10000) misuse("createInferRuntime by a client of another major release");
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) return reinterpret_cast<void*>(0x228);
  auto& log = *static_cast<ILogger*>(logger);
  if (gpusim::fails(log, "createInferRuntime")) return nullptr;
  return static_cast<IRuntime*>(new gpusim::Runtime(log));
}
