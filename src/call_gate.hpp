// A call's way from Python into the core: what it asks while it blocks, and who waits for it when the interpreter ends.
#pragma once

#include <pthread.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "gil.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet::python {

/// An InterruptCheck: runs the handlers of signals that have come, Ctrl-C among them. Python runs them on its main
/// thread alone, so other threads need not ask again.
inline bool check_signals() {
  const GilAcquired gil;
  if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
  try {
    const pybind11::object main = pybind11::module_::import("threading").attr("main_thread")();
    return main.attr("ident").cast<unsigned long>() == PyThread_get_thread_ident();
  } catch (const pybind11::error_already_set&) {  // an interpreter that ends has no modules any more
    return false;
  }
}

/// Counts the calls that are inside an engine, so that the end of the interpreter can wait for them.
///
/// Daemon threads go on while the interpreter ends. One that comes back from an engine then finds no interpreter: ours
/// stop there (gil.hpp), but an engine may have its own way of taking the GIL, which ends the process, and the
/// destructors of libraries run under what is still at work. So the end first waits for the calls that are inside, for
/// kPatience at most, and lets no other thread in.
class CallGate {
 public:
  static constexpr std::chrono::seconds kPatience{5};

  /// One call inside. Make it with the GIL released.
  class Pass {
   public:
    /// @throw DetectorClosed  the interpreter ends, but not soon enough to stop this thread.
    Pass() : gate_(*current()) {
      ++gate_.inside_;
      if (!gate_.ending_ || gate_.ender_ == std::this_thread::get_id()) return;
      gate_.leave();
      // Mostly the process is over before that. Where somebody waits for this thread before it ends, it must go on.
      std::this_thread::sleep_for(std::chrono::seconds(2));
      throw DetectorClosed("the interpreter is ending: engines take no more calls");
    }
    ~Pass() { gate_.leave(); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    CallGate& gate_;
  };

  /// Has the interpreter call drain() at its end, and a forked child begin with a gate that nobody is in.
  static void install() {
    pybind11::module_::import("atexit").attr("register")(pybind11::cpp_function([] { current()->drain(); }));
    static_cast<void>(::pthread_atfork(nullptr, nullptr, [] { current() = new CallGate; }));
  }

 private:
  /// Never destroyed: threads use it until the process is over.
  static CallGate*& current() {
    static CallGate* gate = new CallGate;
    return gate;
  }

  void leave() noexcept {
    if (--inside_ > 0 || !ending_) return;
    const std::lock_guard lock(mutex_);
    empty_.notify_all();
  }

  void drain() {
    ender_ = std::this_thread::get_id();
    ending_ = true;
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (inside_ > 0 && std::chrono::steady_clock::now() < deadline) {
      {
        const GilReleased nogil;
        std::unique_lock lock(mutex_);
        empty_.wait_for(lock, std::chrono::milliseconds(50), [this] { return inside_ == 0; });
      }
      if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
    }
  }

  std::atomic<int> inside_{0};
  std::atomic<bool> ending_{false};
  std::thread::id ender_;  // written before ending_
  std::mutex mutex_;
  std::condition_variable empty_;
};

}  // namespace swiftdet::python
