// The pipeline for Python. The GIL is released from the first array check to the result.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "call_gate.hpp"
#include "convert.hpp"
#include "detect_call.hpp"
#include "gil.hpp"
#include "register.hpp"
#include "swiftdet/detector.hpp"

namespace swiftdet::python {
namespace {

/// Sessions wait for their engine's threads when they end.
struct DeleteWithoutGil {
  void operator()(Detector* detector) const noexcept {
    const GilReleased nogil;
    delete detector;
  }
};

}  // namespace

void register_detector(py::module_& m) {
  py::class_<Detector, std::unique_ptr<Detector, DeleteWithoutGil>>(
      m, "Detector",
      "The pipeline letterbox -> engine -> decode -> NMS -> map back -> clip over a pool of sessions.\n\n"
      "Safe from any number of threads; the GIL is released while it works.")
      .def(py::init([](std::shared_ptr<const Backend> backend, const ops::Preprocess& preprocess,
                       const ops::HeadSpec& head, std::pair<int, int> network_size, int max_sessions) {
             return std::unique_ptr<Detector, DeleteWithoutGil>(new Detector({.backend = std::move(backend),
                                                                              .preprocess = preprocess,
                                                                              .head = head,
                                                                              .network_size = as_size(network_size),
                                                                              .max_sessions = max_sessions}));
           }),
           py::arg("backend"), py::arg("preprocess"), py::arg("head"), py::arg("network_size"), py::kw_only(),
           py::arg("max_sessions") = 0)
      .def(
          "detect",
          [](const Detector& self, const std::vector<std::pair<py::array, bool>>& images, float conf, float iou,
             int max_det, bool class_agnostic, bool multi_label, const std::optional<std::vector<int>>& classes,
             std::optional<std::pair<int, int>> network_size, int max_candidates, bool timed) {
            std::vector<SourceImage> sources;
            sources.reserve(images.size());
            for (const auto& [pixels, is_rgb] : images) {
              sources.push_back({as_image(pixels), is_rgb ? ChannelOrder::kRgb : ChannelOrder::kBgr});
            }
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
          },
          py::arg("images"), py::kw_only(), py::arg("conf"), py::arg("iou"), py::arg("max_det"),
          py::arg("class_agnostic"), py::arg("multi_label"), py::arg("classes"), py::arg("network_size") = py::none(),
          py::arg("max_candidates") = ops::kMaxCandidates, py::arg("timed") = false,
          "Detects in (uint8 image, is_rgb) pairs and returns, per image, (xyxy float32 [K,4] source px, conf float32 "
          "[K],\n"
          "cls int32 [K], truncated, (preprocess, inference, postprocess) in ms). The arrays own their memory.\n"
          "`timed` changes nothing here: on the CPU the stages are always told apart.\n\n"
          "On the main thread, Ctrl-C ends a call that waits or computes. Raises DetectorClosed after close(), "
          "UsedAfterFork in a forked child.")
      .def("close", &Detector::close, "Calls that hold a session finish; those that wait for one raise DetectorClosed.")
      .def_property_readonly(
          "sessions", [](const Detector& self) { return counts_tuple(self.sessions()); },
          "(limit, made, idle, waiting): most sessions, those that exist, those that are free, calls that wait.");
}

}  // namespace swiftdet::python
