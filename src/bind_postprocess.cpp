// Decoding of heads and non-maximum suppression, for arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "postprocess_call.hpp"
#include "register.hpp"
#include "swiftdet/base/error.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/head.hpp"
#include "swiftdet/ops/nms.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace swiftdet::python {
namespace {

constexpr std::array<std::pair<const char*, ops::HeadLayout>, 6> kLayouts{{
    {"anchor_maps", ops::HeadLayout::kAnchorMaps},
    {"rows", ops::HeadLayout::kRows},
    {"columns", ops::HeadLayout::kColumns},
    {"scores_boxes", ops::HeadLayout::kScoresBoxes},
    {"distribution_maps", ops::HeadLayout::kDistributionMaps},
    {"detections", ops::HeadLayout::kDetections},
}};
constexpr std::array<std::pair<const char*, ops::BoxFormat>, 2> kBoxFormats{{
    {"xyxy", ops::BoxFormat::kXyxy},
    {"cxcywh", ops::BoxFormat::kCxcywh},
}};

template <typename Value, std::size_t kCount>
Value named(const std::array<std::pair<const char*, Value>, kCount>& choices, const std::string& name,
            const char* what) {
  std::string known;
  for (const auto& [choice, value] : choices) {
    if (name == choice) return value;
    known += (known.empty() ? "" : ", ") + std::string(choice);
  }
  throw InvalidArgument(std::string(what) + ": expected one of " + known + ", got '" + name + "'");
}

template <typename Value, std::size_t kCount>
std::string name_of(const std::array<std::pair<const char*, Value>, kCount>& choices, Value wanted) {
  for (const auto& [choice, value] : choices) {
    if (value == wanted) return choice;
  }
  return "unknown";
}

ops::HeadSpec make_head(const std::string& layout, int num_classes, std::vector<std::string> outputs,
                        const std::string& box_format, bool has_objectness, bool scores_are_logits,
                        bool scores_class_major, std::vector<int> strides, std::vector<std::array<float, 2>> anchors,
                        int reg_max) {
  ops::HeadSpec head;
  head.layout = named(kLayouts, layout, "layout");
  head.num_classes = num_classes;
  head.outputs = std::move(outputs);
  head.box_format = named(kBoxFormats, box_format, "box_format");
  head.has_objectness = has_objectness;
  head.scores_are_logits = scores_are_logits;
  head.scores_class_major = scores_class_major;
  head.strides = std::move(strides);
  head.anchors = std::move(anchors);
  head.reg_max = reg_max;
  return head;
}

DecodedArrays decode(const std::vector<py::array>& outputs, const ops::HeadSpec& head, float conf, bool multi_label,
                     const std::vector<std::uint8_t>& classes, int max_candidates, int image) {
  return decode_arrays(outputs, head, [&](std::span<const TensorView> views, ops::Candidates& candidates) {
    ops::Decoder decoder(head);
    decoder.run(views, image, {conf, multi_label, classes, max_candidates}, candidates);
  });
}

py::array_t<std::int64_t> nms(const py::array& boxes, const py::array& scores, const py::array& classes,
                              float iou_threshold, bool class_agnostic, int max_det) {
  return nms_arrays(boxes, scores, classes, [&](const auto&... values) {
    return ops::nms(values..., {iou_threshold, class_agnostic, max_det});
  });
}

}  // namespace

void register_postprocess(py::module_& m) {
  py::class_<ops::HeadSpec>(m, "HeadSpec", "Layout of a detector's raw outputs; the compiled form of spec.Head.")
      .def(py::init(&make_head), py::kw_only(), "layout"_a, "num_classes"_a, "outputs"_a, "box_format"_a = "cxcywh",
           "has_objectness"_a = false, "scores_are_logits"_a = false, "scores_class_major"_a = false,
           "strides"_a = std::vector<int>{}, "anchors"_a = std::vector<std::array<float, 2>>{}, "reg_max"_a = 0,
           "The fields are those of swiftdet.spec.Head.\n\n"
           "Raises InvalidArgument for an unknown layout or box_format; contradictions are found when it is used.")
      .def_property_readonly("layout", [](const ops::HeadSpec& head) { return name_of(kLayouts, head.layout); })
      .def_property_readonly("box_format",
                             [](const ops::HeadSpec& head) { return name_of(kBoxFormats, head.box_format); })
      .def_readonly("num_classes", &ops::HeadSpec::num_classes)
      .def_readonly("outputs", &ops::HeadSpec::outputs)
      .def_readonly("has_objectness", &ops::HeadSpec::has_objectness)
      .def_readonly("scores_are_logits", &ops::HeadSpec::scores_are_logits)
      .def_readonly("scores_class_major", &ops::HeadSpec::scores_class_major)
      .def_readonly("strides", &ops::HeadSpec::strides)
      .def_readonly("anchors", &ops::HeadSpec::anchors)
      .def_readonly("reg_max", &ops::HeadSpec::reg_max);

  m.def(
      "decode", &decode, "outputs"_a, "head"_a, py::kw_only(), "conf"_a, "multi_label"_a, "classes"_a,
      "max_candidates"_a, "image"_a,
      "Candidates over the threshold: boxes float32 [K, 4] xyxy network px, scores float32 [K], classes int32 [K].\n\n"
      "outputs: float32 C-contiguous arrays in the order of head.outputs; borrowed for the call.\n"
      "classes: one flag per class, non-zero = wanted; empty = all. Releases the GIL; thread-safe.\n"
      "Raises InvalidType, InvalidArgument, ModelError (outputs that do not fit the head).");
  m.def("nms", &nms, "boxes"_a, "scores"_a, "classes"_a, py::kw_only(), "iou_threshold"_a, "class_agnostic"_a,
        "max_det"_a,
        "Indices int64 of the survivors by score desc, ties by class asc, then index asc.\n\n"
        "boxes float32 [K, 4] xyxy, scores float32 [K], classes int32 [K], all C-contiguous; borrowed for the call.\n"
        "max_det: -1 = no limit. Releases the GIL; thread-safe. Raises InvalidType, InvalidArgument.");
}

}  // namespace swiftdet::python
