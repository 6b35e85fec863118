// The GIL for a scope, on threads that may outlive the interpreter.
//
// When the interpreter ends, Python before 3.14 ends each daemon thread that asks for the GIL with pthread_exit, which
// unwinds its stack; meeting a destructor, as pybind11's guards do, that ends the whole process instead. Here such a
// thread stops for good, as it does from Python 3.14 on: nothing of it may run any more, and exit() ends it.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <cxxabi.h>

#include <optional>
#include <utility>

namespace swiftdet::python {

/// Calls `take_gil`; does not return if Python ends this thread.
#if defined(__GLIBCXX__)
// What ends a thread is no C++ object: libstdc++ hands out a null reference to it, which UBSan would report.
template <typename TakeGil>
[[gnu::noinline, gnu::no_sanitize("null")]] void take_gil_or_stop(const TakeGil& take_gil) {
  try {
    take_gil();
  } catch (abi::__forced_unwind&) {
    while (true) ::pause();
  }
}
#else
template <typename TakeGil>
void take_gil_or_stop(const TakeGil& take_gil) {
  take_gil();
}
#endif

/// This thread's state where a GilReleased of ours is in force; else null.
inline thread_local PyThreadState* released_state = nullptr;

/// The scope runs without the GIL. Needs it before and has it after.
class GilReleased {
 public:
  GilReleased() noexcept : state_(PyEval_SaveThread()), outer_(std::exchange(released_state, state_)) {}
  ~GilReleased() {
    released_state = outer_;
    take_gil_or_stop([this] { PyEval_RestoreThread(state_); });
  }
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;

 private:
  PyThreadState* state_;
  PyThreadState* outer_;
};

/// The scope runs with the GIL, also on threads that Python does not know.
class GilAcquired {
 public:
  GilAcquired() : state_(std::exchange(released_state, nullptr)) {
    if (state_ != nullptr) {
      // Looking the state up again, as pybind11 does, would read what an interpreter that ends has freed.
      take_gil_or_stop([this] { PyEval_RestoreThread(state_); });
    } else {
      take_gil_or_stop([this] { gil_.emplace(); });
    }
  }
  ~GilAcquired() {
    if (state_ != nullptr) released_state = PyEval_SaveThread();
  }
  GilAcquired(const GilAcquired&) = delete;
  GilAcquired& operator=(const GilAcquired&) = delete;

 private:
  PyThreadState* state_;
  std::optional<pybind11::gil_scoped_acquire> gil_;
};

}  // namespace swiftdet::python
