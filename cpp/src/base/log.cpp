#include "swiftdet/base/log.hpp"

#include <atomic>
#include <deque>
#include <iterator>
#include <mutex>
#include <utility>

namespace swiftdet {
namespace {

constexpr std::size_t kKept = 256;

struct Messages {
  std::mutex mutex;
  std::deque<LogEntry> entries;
  std::atomic<bool> pending = false;
};

/// Never destroyed: engines' threads may speak until the process is gone.
Messages& messages() {
  static auto* const all = new Messages;
  return *all;
}

}  // namespace

void log(Severity severity, const char* text) noexcept {
  try {
    Messages& all = messages();
    const std::lock_guard lock(all.mutex);
    if (all.entries.size() == kKept) all.entries.pop_front();
    all.entries.push_back({severity, text});
    all.pending.store(true, std::memory_order_relaxed);
  } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory for a message
  }
}

std::vector<LogEntry> take_log() {
  Messages& all = messages();
  const std::lock_guard lock(all.mutex);
  all.pending.store(false, std::memory_order_relaxed);
  std::vector<LogEntry> taken(std::make_move_iterator(all.entries.begin()), std::make_move_iterator(all.entries.end()));
  all.entries.clear();
  return taken;
}

bool has_log() noexcept { return messages().pending.load(std::memory_order_relaxed); }

}  // namespace swiftdet
