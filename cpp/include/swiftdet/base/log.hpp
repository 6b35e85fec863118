// What the core has to say that is no error. It never prints: messages wait here until somebody with a place for them
// asks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace swiftdet {

enum class Severity : std::uint8_t { kError, kWarning, kInfo };

struct LogEntry {
  Severity severity = Severity::kInfo;
  std::string text;
};

/// Keeps a message; of very many unasked ones, the latest. From any thread, also one that an engine started.
void log(Severity severity, const char* text) noexcept;

/// The messages since the last call, oldest first. Safe from several threads.
[[nodiscard]] std::vector<LogEntry> take_log();

/// Whether take_log() would return anything; costs one atomic read.
[[nodiscard]] bool has_log() noexcept;

}  // namespace swiftdet
