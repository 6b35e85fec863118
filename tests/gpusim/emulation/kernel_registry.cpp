#include "emulation/kernel_registry.hpp"

#include <vector>

namespace emulation {
namespace {

/// Filled before main begins, read only after.
std::vector<Twin>& twins() {
  static std::vector<Twin> all;
  return all;
}

}  // namespace

void register_twin(const Twin& twin) { twins().push_back(twin); }

const Twin* find_twin(const void* function) {
  for (const Twin& twin : twins()) {
    if (twin.function == function) return &twin;
  }
  return nullptr;
}

const Twin* find_twin_named(std::string_view name) {
  for (const Twin& twin : twins()) {
    if (twin.name == name) return &twin;
  }
  return nullptr;
}

}  // namespace emulation
