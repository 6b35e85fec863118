// A network that can be reasoned about: its single box and score are read off the input tensor itself.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "swiftdet/backend.hpp"
#include "swiftdet/base/error.hpp"

namespace swiftdet::testing {

/// Head "rows" without objectness, [N, 2, 4+1]: prediction 0 is a box that fills the input, with the red value of the
/// input's centre pixel as its score; prediction 1 never reaches a threshold.
class FakeBackend final : public Backend {
 public:
  explicit FakeBackend(std::int64_t batch = 1) : input_{"images", {batch, 3, -1, -1}} {}

  [[nodiscard]] const Port& input() const noexcept override { return input_; }
  [[nodiscard]] const std::vector<Port>& outputs() const noexcept override { return outputs_; }
  [[nodiscard]] int preferred_sessions() const noexcept override { return 2; }
  [[nodiscard]] std::string description() const override { return "fake"; }

  [[nodiscard]] std::unique_ptr<BackendSession> create_session(const Shape& shape) const override {
    if (fail_create.exchange(false)) throw BackendError("creation refused");
    ++sessions_created;
    return std::make_unique<Session>(*this, shape);
  }

  /// What the network last saw. Not for tests with several threads.
  [[nodiscard]] std::vector<float> last_input() const { return last_input_; }
  bool keep_inputs = false;
  /// From now on as an engine that cannot tell the rank of its output.
  void hide_output_rank() { outputs_[0].shape = {}; }

  mutable std::atomic<bool> fail_create{false};
  mutable std::atomic<bool> fail_next_wait{false};
  mutable std::atomic<int> sessions_created{0};
  mutable std::atomic<int> running{0};
  /// Runs go on until they are cancelled, for those who ask by wait_for().
  mutable std::atomic<bool> endless{false};
  mutable std::atomic<int> cancelled{0};

 private:
  class Session final : public BackendSession {
   public:
    Session(const FakeBackend& owner, const Shape& shape)
        : owner_(owner), input_values_(static_cast<std::size_t>(shape.volume())), input_{input_values_.data(), shape} {
      const std::int64_t batch = shape[0];
      output_values_.resize(static_cast<std::size_t>(batch * 2 * 5));
      output_.push_back({output_values_.data(), {batch, 2, 5}});
    }
    [[nodiscard]] MutableTensorView input() override { return input_; }
    void start() override { ++owner_.running; }
    [[nodiscard]] bool wait_for(std::chrono::milliseconds patience) override {
      if (owner_.endless && !cancelled_) {
        std::this_thread::sleep_for(patience);
        return false;
      }
      wait();
      return true;
    }
    void cancel() noexcept override {
      cancelled_ = true;
      ++owner_.cancelled;
    }
    void wait() override {
      --owner_.running;
      if (owner_.keep_inputs) owner_.last_input_ = input_values_;
      if (owner_.fail_next_wait.exchange(false)) throw BackendError("inference refused");
      const std::int64_t h = input_.shape[2];
      const std::int64_t w = input_.shape[3];
      for (std::int64_t n = 0; n < input_.shape[0]; ++n) {
        float* const row = output_values_.data() + n * 10;
        row[0] = static_cast<float>(w) / 2;
        row[1] = static_cast<float>(h) / 2;
        row[2] = static_cast<float>(w);
        row[3] = static_cast<float>(h);
        row[4] = input_.data[n * 3 * h * w + (h / 2) * w + w / 2];
      }
    }
    [[nodiscard]] std::span<const TensorView> outputs() const override { return output_; }

   private:
    const FakeBackend& owner_;
    bool cancelled_ = false;
    std::vector<float> input_values_;
    MutableTensorView input_;
    std::vector<float> output_values_;
    std::vector<TensorView> output_;
  };

  mutable std::vector<float> last_input_;
  Port input_;
  std::vector<Port> outputs_{{"output", {-1, 2, 5}}};
};

}  // namespace swiftdet::testing
