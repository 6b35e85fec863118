// The machine behind the stand-in CUDA runtime: devices without cores, whose work runs on the host when it is waited
// for.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "control.hpp"

namespace gpusim {

/// A piece of a stream's work.
struct Work {
  std::function<void()> run;
  bool on_device = true;  ///< may touch device memory; host functions may not
};

struct Capture {
  std::vector<Work> work;
  std::thread::id thread;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  bool broken = false;
  int device = 0;
};

struct Stream {
  int device = 0;
  std::deque<Work> queue;
  std::shared_ptr<Capture> capture;
};

/// One recording of an event: who waits for it waits for this one, also if the event is recorded again meanwhile.
struct Mark {
  bool done = true;
  Stream* stream = nullptr;  ///< may have ended since
};

struct Event {
  int device = 0;
  bool times = true;
  bool recorded = false;
  std::shared_ptr<Mark> mark = std::make_shared<Mark>();
  std::shared_ptr<Capture> capture;
  std::chrono::steady_clock::time_point at;
};

struct Graph {
  int device = 0;
  std::vector<Work> work;
};

enum class MemoryKind : unsigned char { kDevice, kPinned };

struct Allocation {
  std::size_t bytes = 0;
  std::size_t mapped = 0;  ///< without the guard page behind it
  MemoryKind kind = MemoryKind::kDevice;
  int device = 0;
};

struct Kernel {
  std::string name;  ///< demangled, without parameters
  std::size_t max_dynamic_shared = 48U << 10U;
};

/// One per process. Every entry point of the API holds `mutex` from its first line to its last; work runs under it too,
/// so devices are never concurrent with one another.
class Machine {
 public:
  static Machine& get();

  std::recursive_mutex mutex;
  const int device_count;
  bool eager;

  std::set<Stream*> streams;
  std::set<Event*> events;
  std::set<Graph*> graphs;
  std::set<Graph*> executables;
  std::map<const void*, Kernel> kernels;
  std::map<char*, Allocation> allocations;

  // -- work
  cudaError_t submit(Stream& stream, Work work);
  void drain(Stream& stream);
  void drain_all();
  /// Runs what stands before `mark`.
  void reach(const Mark& mark);
  /// What work reported since the last synchronisation of `device`.
  cudaError_t take_work_error(int device);
  void raise(cudaError_t error);
  /// Fails during a capture that this call would spoil (CUDA's "unsafe" calls), and spoils it.
  cudaError_t forbid_in_capture();

  // -- memory
  cudaError_t allocate(void** pointer, std::size_t bytes, MemoryKind kind, int device);
  cudaError_t release(void* pointer, MemoryKind kind);
  /// The allocation that holds [pointer, pointer + bytes); null if there is none.
  const Allocation* holder(const void* pointer, std::size_t bytes) const;
  /// The allocation in which `pointer` lies.
  const Allocation* owner(const void* pointer) const { return holder(pointer, 1); }

  // -- failures and log
  struct Failure {
    std::string name;
    long countdown = 0;
    cudaError_t error = cudaSuccess;
    bool sticky = false;
  };
  Failure call_failure;
  Failure work_failure;
  bool failed = false;
  std::map<int, cudaError_t> lost;  ///< device -> its sticky error
  std::vector<std::string> log;
  long calls = 0;
  /// Resources whose release failed by injection or on a lost device: gone for the caller, as with CUDA.
  void abandon(const void* resource) { abandoned.insert(resource); }
  std::set<const void*> abandoned;

 private:
  Machine();
  void open(int device);
  void close(int device);
  std::vector<int> open_;
  std::map<int, cudaError_t> work_error_;
  int running_on_ = -1;
};

/// State of the calling thread.
struct Thread {
  int device = 0;
  cudaError_t last_error = cudaSuccess;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
};
Thread& thread();

/// The stand-in of one API call: takes the lock, writes the log, injects failures.
class Call {
 public:
  enum class Kind : unsigned char {
    kNormal,
    kQuery,   ///< asks for errors or names: neither counted nor made to fail
    kGlobal,  ///< works on a lost device too
  };
  explicit Call(const char* name, Kind kind = Kind::kNormal);

  /// True when the call must return result() at once.
  [[nodiscard]] bool refused() const { return error_ != cudaSuccess; }
  [[nodiscard]] cudaError_t result() const { return error_; }
  /// Adds to the line in the log.
  void note(const std::string& text) const;
  /// Remembers an error as the thread's last one.
  static cudaError_t done(cudaError_t error);

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  cudaError_t error_ = cudaSuccess;
};

/// The stream behind a handle, if it exists and belongs to the current device: a device guard that is missing shows
/// here.
Stream* stream_of(cudaStream_t handle, cudaError_t& error);

}  // namespace gpusim
