#include "backends/openvino_requests.hpp"

#include <algorithm>
#include <utility>

namespace swiftdet::openvino {

std::string Requests::property(const char* name) const {
  char* text = nullptr;
  library_.check(library_.api().ov_compiled_model_get_property(compiled_.get(), name, &text),
                 std::string("tell its property ") + name);
  std::string value = text;
  library_.api().ov_free(text);
  return value;
}

Handle<ov_infer_request_t> Requests::take() {
  const Api& api = library_.api();
  const std::lock_guard lock(mutex_);
  if (!unused_.empty()) {
    Handle<ov_infer_request_t> request = std::move(unused_.back());
    unused_.pop_back();
    return request;
  }
  unused_.reserve(++made_);  // so that give_back() needs no memory
  // None begins while the lock is held. What these report is for those who started them.
  for (ov_infer_request_t* const request : running_) static_cast<void>(api.ov_infer_request_wait(request));
  return library_.acquire(api.ov_infer_request_free, "create an inference request", [&](ov_infer_request_t** out) {
    return api.ov_compiled_model_create_infer_request(compiled_.get(), out);
  });
}

void Requests::give_back(Handle<ov_infer_request_t> request) noexcept {
  if (!library_.in_own_process()) return;  // a thread that is not in a forked child may have had the lock
  const std::lock_guard lock(mutex_);
  unused_.push_back(std::move(request));
}

void Requests::start(ov_infer_request_t* request) {
  const std::lock_guard lock(mutex_);
  running_.reserve(running_.size() + 1);  // what could fail fails before the run begins
  library_.check(library_.api().ov_infer_request_start_async(request), "start the network");
  running_.push_back(request);
}

void Requests::ended(const ov_infer_request_t* request) noexcept {
  const std::lock_guard lock(mutex_);
  std::erase(running_, request);
}

}  // namespace swiftdet::openvino
