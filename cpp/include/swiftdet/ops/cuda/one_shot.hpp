// The operations on a GPU for arrays of the host: each call brings its arrays to the device and its answer back.
//
// For parity with the CPU's operations and for convenience, not for speed: every call makes a stream and its device
// memory and lets them go again. A detector keeps what these make (gpu_detector.hpp).
//
// Each equals the operation of its name in ops, bit for bit, and refuses what that refuses. Safe from several threads.
// All of them @throw OutOfMemory, CudaError; BackendUnavailable  no such device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "swiftdet/base/image_view.hpp"
#include "swiftdet/base/tensor_view.hpp"
#include "swiftdet/ops/candidates.hpp"
#include "swiftdet/ops/decode.hpp"
#include "swiftdet/ops/head.hpp"
#include "swiftdet/ops/letterbox.hpp"
#include "swiftdet/ops/nms.hpp"
#include "swiftdet/ops/resize.hpp"

namespace swiftdet::ops::cuda {

/// As ops::nms: the host puts the boxes in order, the kernel walks. @throw InvalidArgument  also more than 2^30 boxes.
[[nodiscard]] std::vector<std::int64_t> nms_once(int device, std::span<const float> boxes_xyxy,
                                                 std::span<const float> scores, std::span<const std::int32_t> classes,
                                                 const NmsOptions& options);

/// As ops::Letterbox::run.
LetterboxMeta letterbox_once(int device, const ImageView& source, ChannelOrder order, const Preprocess& preprocess,
                             Size target, float* tensor);
LetterboxMeta letterbox_once(int device, const ImageView& source, ChannelOrder order, const Preprocess& preprocess,
                             Size target, std::uint8_t* tensor);

/// As ops::resize: a letterbox without a border or scaling, of four channels as two images.
void resize_once(int device, const ImageView& source, const MutableImageView& target, Interpolation interpolation);

/// As ops::Decoder::run; of the outputs only the wanted image's part is copied.
/// @throw ModelError  also a head of more than 64 anchors.
void decode_once(int device, std::span<const TensorView> outputs, const HeadSpec& head, int image,
                 const DecodeOptions& options, Candidates& candidates);

}  // namespace swiftdet::ops::cuda
