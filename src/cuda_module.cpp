// The extension module swiftdet._cuda: devices, TensorRT engines and the pipeline on a GPU. Built only with CUDA;
// imported only when a GPU is asked for. Private: users import swiftdet.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "call_gate.hpp"
#include "convert.hpp"
#include "cuda_dlpack.hpp"
#include "detect_call.hpp"
#include "gil.hpp"
#include "register.hpp"
#include "swiftdet/base/log.hpp"
#include "swiftdet/cuda/device.hpp"
#include "swiftdet/cuda/stream.hpp"
#include "swiftdet/gpu_detector.hpp"
#include "swiftdet/tensorrt.hpp"

namespace swiftdet::python {
namespace {

using namespace pybind11::literals;  // NOLINT(google-build-using-namespace): "name"_a

/// An image that is on the GPU already, as its owner describes it.
struct CudaImage {
  std::uintptr_t pointer = 0;
  int height = 0;
  int width = 0;
  int channels = 3;
  std::int64_t row_stride = 0;
  std::optional<std::uintptr_t> stream;
};

using AnyImage = std::variant<CudaImage, py::array>;

/// Destroying sessions and engines waits for the device: not with the GIL.
struct DeleteWithoutGil {
  void operator()(GpuDetector* detector) const noexcept {
    const GilReleased nogil;
    delete detector;
  }
};

std::shared_ptr<GpuEngine> droppable(std::shared_ptr<const GpuEngine> engine) {
  // pybind11 knows no pointers to const; every method bound below is const.
  auto* const raw = const_cast<GpuEngine*>(engine.get());  // NOLINT(cppcoreguidelines-pro-type-const-cast)
  return {raw, [engine = std::move(engine)](GpuEngine*) mutable noexcept {
            std::optional<GilReleased> nogil;
            if (Py_IsInitialized() != 0 && PyGILState_Check() != 0) nogil.emplace();
            engine.reset();
          }};
}

py::tuple as_python(const GpuPort& port) {
  return py::make_tuple(as_text(port.name), as_tuple(port.shape),
                        py::str(port.type == GpuElement::kFloat32 ? "float32" : "float16"));
}

py::list as_python(const std::vector<GpuPort>& ports) {
  py::list list;
  for (const GpuPort& port : ports) list.append(as_python(port));
  return list;
}

GpuSourceImage as_source(const AnyImage& image, bool is_rgb, int device) {
  GpuSourceImage source;
  source.order = is_rgb ? ChannelOrder::kRgb : ChannelOrder::kBgr;
  if (const auto* const pixels = std::get_if<py::array>(&image)) {
    source.view = as_image(*pixels);
    return source;
  }
  const auto& on_gpu = std::get<CudaImage>(image);
  source.on_device = true;
  source.view.data = reinterpret_cast<const std::uint8_t*>(on_gpu.pointer);  // NOLINT(performance-no-int-to-ptr)
  const int holder = cuda::device_of(source.view.data);
  if (holder != device) {
    throw InvalidArgument(
        "image: it is in the memory of " + (holder < 0 ? std::string("no GPU") : "cuda:" + std::to_string(holder)) +
        ", the detector runs on cuda:" + std::to_string(device) + "; copy it there, or make a detector for its device");
  }
  source.view.size = {on_gpu.height, on_gpu.width};
  source.view.channels = on_gpu.channels;
  source.view.row_stride = static_cast<std::ptrdiff_t>(on_gpu.row_stride);
  source.view.pixel_stride = on_gpu.channels;
  if (on_gpu.stream) {
    source.producer = reinterpret_cast<cuda::StreamHandle>(*on_gpu.stream);  // NOLINT(performance-no-int-to-ptr)
  }
  return source;
}

py::list detect(const GpuDetector& self, const std::vector<std::pair<AnyImage, bool>>& images, float conf, float iou,
                int max_det, bool class_agnostic, bool multi_label, const std::optional<std::vector<int>>& classes,
                const std::optional<std::pair<int, int>>& network_size, int max_candidates, bool timed) {
  self.check_process();  // before CUDA is asked where an image lies
  std::vector<GpuSourceImage> sources;
  sources.reserve(images.size());
  const int device = self.config().engine->device();
  for (const auto& [image, is_rgb] : images) sources.push_back(as_source(image, is_rgb, device));
  const CallOptions options{.conf = conf,
                            .iou = iou,
                            .max_det = max_det,
                            .class_agnostic = class_agnostic,
                            .multi_label = multi_label,
                            .classes = class_flags(classes, self.config().head.num_classes),
                            .network_size = network_size ? as_size(*network_size) : Size{},
                            .max_candidates = max_candidates,
                            .timed = timed};
  std::vector<DetectionsBuffer> results(images.size());
  {
    const GilReleased nogil;
    const CallGate::Pass pass;
    self.detect(sources, options, results, &check_signals);
  }
  return to_list(std::move(results));
}

const char* severity_name(Severity severity) {
  switch (severity) {
    case Severity::kError: return "error";
    case Severity::kWarning: return "warning";
    default: return "info";
  }
}

py::list take_log() {
  std::vector<LogEntry> entries;
  {
    const GilReleased nogil;
    entries = swiftdet::take_log();
  }
  py::list list;
  for (const LogEntry& entry : entries) {
    list.append(py::make_tuple(py::str(severity_name(entry.severity)), as_text(entry.text)));
  }
  return list;
}

py::dict build_config() {
  py::dict config;
  config["version"] = SWIFTDET_VERSION;
  config["cuda_runtime"] = cuda::versions().runtime;
  config["architectures"] = SWIFTDET_CUDA_ARCHITECTURES;
  config["tensorrt_headers"] = SWIFTDET_TENSORRT_VERSION;
  return config;
}

void register_devices(py::module_& m) {
  py::class_<cuda::DeviceInfo>(m, "Device", "A GPU that CUDA sees.")
      .def_readonly("index", &cuda::DeviceInfo::index)
      .def_readonly("name", &cuda::DeviceInfo::name)
      .def_property_readonly(
          "compute_capability",
          [](const cuda::DeviceInfo& self) { return std::make_pair(self.compute_major, self.compute_minor); },
          "(major, minor): SM 8.6 is (8, 6).")
      .def_readonly("memory_bytes", &cuda::DeviceInfo::memory_bytes);
  m.def("device_count", &cuda::device_count, py::call_guard<GilReleased>(),
        "How many GPUs CUDA sees.\n\nRaises BackendUnavailable when there is none, or no driver for this build.");
  m.def("device", &cuda::device_info, "index"_a, py::call_guard<GilReleased>(),
        "The GPU of an index.\n\nRaises BackendUnavailable when there is none of that index.");
  m.def(
      "versions",
      [] {
        const cuda::Versions found = cuda::versions();
        return std::make_pair(found.driver, found.runtime);
      },
      "CUDA versions of the driver (0: none) and of this build, as 1000 * major + 10 * minor.");
}

void register_tensorrt(py::module_& m) {
  py::class_<GpuEngine, std::shared_ptr<GpuEngine>>(
      m, "Engine", "A network made ready for one GPU: immutable, safe from several threads.")
      .def_property_readonly("device", &GpuEngine::device, "Index of its GPU.")
      .def_property_readonly(
          "input", [](const GpuEngine& self) { return as_python(self.input()); },
          "(name, shape, 'float32' or 'float16') of the image input; -1 is an open dimension.")
      .def_property_readonly(
          "outputs", [](const GpuEngine& self) { return as_python(self.outputs()); },
          "The same of every output, a list.")
      .def_property_readonly("description", &GpuEngine::description, "Name, release and GPU: for provenance.")
      .def(
          "batch_range",
          [](const GpuEngine& self, std::pair<int, int> size) {
            const GpuEngine::BatchRange range = self.batch_range(as_size(size));
            return std::make_pair(range.least, range.most);
          },
          "size"_a, "Fewest and most images of (height, width) in one run; (0, 0): that size cannot be run.")
      .def_property_readonly(
          "profiles",
          [](const GpuEngine& self) {
            py::list ranges;
            for (const GpuEngine::Profile& profile : self.profiles()) {
              ranges.append(py::make_tuple(as_tuple(profile.least), as_tuple(profile.most)));
            }
            return ranges;
          },
          "Smallest and largest (N, 3, H, W) that it was built for, a list of pairs.")
      .def(
          "output_shapes",
          [](const GpuEngine& self, std::int64_t batch, std::pair<int, int> size) {
            const std::vector<Shape> shapes = [&] {
              const GilReleased nogil;
              const cuda::DeviceGuard current(self.device());
              const cuda::Stream stream(self.device());
              const Size of = as_size(size);
              const auto context = self.create_context({batch, 3, of.height, of.width}, stream.handle());
              stream.synchronize();  // what the context has set up
              return context->output_shapes();
            }();
            py::list list;
            for (const Shape& shape : shapes) list.append(as_tuple(shape));
            return list;
          },
          "batch"_a, "size"_a,
          "Shapes of the outputs for so many images of (height, width), in their order. Takes a session's memory while "
          "it looks.\n\nRaises InvalidArgument when it was not built for that.");
  py::class_<tensorrt::Runtime, std::shared_ptr<tensorrt::Runtime>>(
      m, "TensorRTRuntime", "A loaded libnvinfer. One for each path and process; safe from several threads.")
      .def_static(
          "load",
          [](const std::filesystem::path& libnvinfer, const std::filesystem::path& module_dir) {
            const GilReleased nogil;
            // pybind11 knows no pointers to const; every method bound below is const.
            return std::const_pointer_cast<tensorrt::Runtime>(tensorrt::Runtime::load(libnvinfer, module_dir));
          },
          "libnvinfer"_a, "module_dir"_a,
          "Loads a libnvinfer and, from `module_dir`, what was compiled for its major release.\n\n"
          "Raises BackendUnavailable when there is no GPU, the library does not load, or its release is "
          "another one.")
      .def_property_readonly("version", &tensorrt::Runtime::version, "As \"10.14.1\".")
      .def(
          "deserialize",
          [](const tensorrt::Runtime& self, const py::bytes& plan, int device) {
            const std::string_view text(plan);  // bytes never change: borrowed without the GIL
            const GilReleased nogil;
            return droppable(self.deserialize({reinterpret_cast<const std::byte*>(text.data()), text.size()}, device));
          },
          "plan"_a, "device"_a,
          "Makes an engine of a plan on the GPU of index `device`. Plans can hold code: give it only what is "
          "trusted.\n\n"
          "Raises ModelError when it is no plan, one of another TensorRT or GPU, or no detector.");
  m.def("take_log", &take_log,
        "What TensorRT and the pipeline said since the last call: list of ('error'|'warning'|'info', text).");
  m.def("has_log", &swiftdet::has_log, "Whether take_log() would return anything.");
}

void register_pipeline(py::module_& m) {
  py::class_<CudaImage>(m, "CudaImage", "A uint8 image [H, W, C] in the memory of a GPU; borrowed.")
      .def(py::init([](std::uintptr_t pointer, std::pair<int, int> size, int channels, std::int64_t row_stride,
                       std::optional<std::uintptr_t> stream) {
             return CudaImage{pointer, size.first, size.second, channels, row_stride, stream};
           }),
           "pointer"_a, "size"_a, "channels"_a, "row_stride"_a, "stream"_a = py::none());
  py::class_<GpuDetector, std::unique_ptr<GpuDetector, DeleteWithoutGil>>(
      m, "Detector",
      "The pipeline on a GPU: copy in, graph (letterbox, engine, decode, NMS), copy out, wait.\n\n"
      "Safe from any number of threads; the GIL is released while it works.")
      .def(py::init([](std::shared_ptr<const GpuEngine> engine, const ops::Preprocess& preprocess,
                       const ops::HeadSpec& head, std::pair<int, int> network_size, int max_sessions, int max_batch) {
             return std::unique_ptr<GpuDetector, DeleteWithoutGil>(
                 new GpuDetector({.engine = std::move(engine),
                                  .preprocess = preprocess,
                                  .head = head,
                                  .network_size = as_size(network_size),
                                  .max_sessions = max_sessions,
                                  .max_batch = max_batch}));
           }),
           "engine"_a, "preprocess"_a, "head"_a, "network_size"_a, py::kw_only(), "max_sessions"_a = 0,
           "max_batch"_a = 8)
      .def(
          "detect", &detect, "images"_a, py::kw_only(), "conf"_a, "iou"_a, "max_det"_a, "class_agnostic"_a,
          "multi_label"_a, "classes"_a, "network_size"_a = py::none(), "max_candidates"_a = ops::kMaxCandidates,
          "timed"_a = false,
          "As swiftdet._core.Detector.detect; an image may also be a CudaImage.\n\n"
          "`timed`: the times are (pack, copy in, preprocess, inference, postprocess, copy out, unpack), the first and "
          "the last by the\nhost's clock, the others by CUDA events.")
      .def(
          "lend_stream",
          [](const GpuDetector& self, std::optional<std::uintptr_t> after) {
            const GilReleased nogil;
            std::optional<cuda::StreamHandle> awaited;
            if (after) awaited = reinterpret_cast<cuda::StreamHandle>(*after);  // NOLINT(performance-no-int-to-ptr)
            return std::make_unique<StreamLoan>(self.lend_stream(awaited));
          },
          "after"_a = py::none(),
          "A stream of this detector's GPU, for who makes an image to wait on; to be released after the detection.\n\n"
          "`after`: a stream, by CUDA's numbers; the lent one waits for the work that it holds now.")
      .def("close", &GpuDetector::close, "As swiftdet._core.Detector.close.")
      .def_property_readonly(
          "sessions", [](const GpuDetector& self) { return counts_tuple(self.sessions()); },
          "As swiftdet._core.Detector.sessions.")
      .def_property_readonly("capture_refusal", &GpuDetector::capture_refusal,
                             "Why runs are not replayed as a graph; empty if they are.");
}

}  // namespace
}  // namespace swiftdet::python

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "The CUDA half of swiftdet's core. Private: import swiftdet instead.";
  pybind11::module_::import("swiftdet._core");  // whose types and error translation this module shares
  m.def("build_config", &swiftdet::python::build_config,
        "What this build is: version, CUDA runtime, architectures, TensorRT headers (empty: without TensorRT).");
  swiftdet::python::CallGate::install();
  swiftdet::python::register_devices(m);
  swiftdet::python::register_dlpack(m);
  swiftdet::python::register_tensorrt(m);
  swiftdet::python::register_pipeline(m);
  swiftdet::python::register_cuda_ops(m);
}
