// The process that something was made in: after fork() a child has its memory, but none of its threads.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <string>

#include "swiftdet/base/error.hpp"

namespace swiftdet {

/// Remembers the process that it was made in. Safe from several threads, and in a child whatever the parent's other
/// threads held at the fork: it asks the kernel alone.
class OwnProcess {
 public:
  OwnProcess() noexcept : id_(::getpid()) {}

  /// False in a child forked since.
  [[nodiscard]] bool here() const noexcept { return ::getpid() == id_; }

  /// @param what  "this detector was made". @throw UsedAfterFork  in a child.
  void check(const char* what) const {
    if (here()) return;
    throw UsedAfterFork(std::string(what) +
                        " before this process was forked, and the threads that it needs do not exist here; create the "
                        "detector in the child alone, or start processes with multiprocessing's 'spawn' or "
                        "'forkserver' method");
  }

 private:
  pid_t id_;
};

}  // namespace swiftdet
