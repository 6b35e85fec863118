// What a detector tells of its pool of sessions.
#pragma once

namespace swiftdet {

/// What a pool of sessions holds at one moment.
struct SessionCounts {
  int limit = 0;
  int made = 0;     ///< idle, on loan, or being made
  int idle = 0;     ///< ready for the next call
  int waiting = 0;  ///< calls that wait for one
};

}  // namespace swiftdet
