// How a call that blocks hears that its caller wants it to end.
#pragma once

#include <chrono>

namespace swiftdet {

/// Asked now and then by a call that blocks, on the thread that made the call and with no lock held. Returns whether
/// it is worth asking again; throws to end the call. The core does not know signals: those who call it do.
using InterruptCheck = bool (*)();

/// How long a call blocks before it asks, and between two questions.
constexpr std::chrono::milliseconds kInterruptInterval{50};

/// The questions of one call.
class Interrupts {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Interrupts(InterruptCheck check) noexcept : check_(check) {
    if (check_ != nullptr) asked_ = Clock::now();
  }

  /// Whether waits must be cut into pieces of kInterruptInterval.
  [[nodiscard]] bool wanted() const noexcept { return check_ != nullptr; }

  /// @throw whatever the check throws.
  void ask() {
    if (check_ != nullptr && !check_()) check_ = nullptr;
    if (check_ != nullptr) asked_ = Clock::now();
  }

  /// As ask(), unless that was less than an interval ago: for loops whose steps are short.
  void ask_if_due() {
    if (check_ != nullptr && Clock::now() - asked_ >= kInterruptInterval) ask();
  }

 private:
  InterruptCheck check_;
  Clock::time_point asked_;
};

}  // namespace swiftdet
