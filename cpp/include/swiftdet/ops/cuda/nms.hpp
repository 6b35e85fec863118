// NMS on the device, boxes mapped back to source pixels, and the results packed for one copy to the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "swiftdet/ops/cuda/decode.hpp"

namespace swiftdet::ops::cuda {

/// Head of one image's packed result.
struct PackedHeader {
  std::int32_t count = 0;      ///< K
  std::int32_t capacity = 0;   ///< max_det of the layout, for a check on the host
  std::int64_t truncated = 0;  ///< as DetectionsBuffer::truncated
};

/// Where things lie in a packed result: per image PackedHeader, then xyxy float32 [capacity, 4] source px, conf float32
/// [capacity], cls int32 [capacity]; the first K of each are valid, by score desc. Images lie back to back.
struct PackedLayout {
  std::int32_t capacity = 0;  ///< the most detections of an image

  [[nodiscard]] static constexpr std::size_t xyxy_offset() noexcept { return sizeof(PackedHeader); }
  [[nodiscard]] constexpr std::size_t conf_offset() const noexcept {
    return xyxy_offset() + 4 * sizeof(float) * static_cast<std::size_t>(capacity);
  }
  [[nodiscard]] constexpr std::size_t cls_offset() const noexcept {
    return conf_offset() + sizeof(float) * static_cast<std::size_t>(capacity);
  }
  /// A multiple of 16, so that every image's header and boxes are aligned.
  [[nodiscard]] constexpr std::size_t image_bytes() const noexcept {
    return (cls_offset() + sizeof(std::int32_t) * static_cast<std::size_t>(capacity) + 15) / 16 * 16;
  }
};

/// Bytes of scratch that launch_nms needs: the survivors in network px.
[[nodiscard]] std::size_t nms_workspace_bytes(std::int32_t batch, PackedLayout layout);

/// Enqueues NMS, mapping back, clipping and packing for the whole batch.
///
/// Detections equal those of the CPU's pipeline bit for bit: ops::Nms over the candidates, then x = (x_net - pad) /
/// scale, clipped to the image. A head of layout detections is only cut at max_det. Where an
/// item asks for more than `layout.capacity` detections, it gets those. Every byte of each header is written; places
/// beyond K are left as they are.
/// @param items       device memory [head.batch], read when the kernel runs.
/// @param candidates  of launch_decode on the same stream.
/// @param workspace   device memory of nms_workspace_bytes, 16-byte aligned, of any content.
/// @param results     device memory of head.batch * layout.image_bytes(), 16-byte aligned.
/// Neither allocates nor synchronises. One workspace serves one stream at a time.
[[nodiscard]] cudaError_t launch_nms(const DecodeHead& head, const PostprocessItem* items,
                                     const DeviceCandidates& candidates, PackedLayout layout, void* workspace,
                                     void* results, cudaStream_t stream);

}  // namespace swiftdet::ops::cuda
