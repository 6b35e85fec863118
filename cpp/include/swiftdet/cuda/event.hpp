// A mark in a stream: to wait for, or to take times between.
#pragma once

#include "swiftdet/cuda/stream.hpp"

struct CUevent_st;  // what CUDA's cudaEvent_t points to

namespace swiftdet::cuda {

class Event {
 public:
  enum class Purpose : unsigned char { kOrder, kTiming };

  /// @throw CudaError
  Event(int device, Purpose purpose);
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();

  /// Marks the end of what `stream` holds now; in a capture, every launch of the graph marks it anew.
  void record(StreamHandle stream) const;
  /// Lets what comes after it on `stream` wait for the mark.
  void make_wait(StreamHandle stream) const;
  /// From `begin` to this one, both recorded for timing and passed.
  [[nodiscard]] float milliseconds_since(const Event& begin) const;

 private:
  int device_;
  CUevent_st* handle_ = nullptr;
};

}  // namespace swiftdet::cuda
