#include "cpu/isa.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "swiftdet/base/error.hpp"

namespace swiftdet::cpu {
namespace {

bool processor_has_avx2() {
#if SWIFTDET_ISA_X86
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") != 0;
#else
  return false;
#endif
}

Isa choose() {
  const std::vector<Isa> available = available_isas();
  const char* const forced = std::getenv("SWIFTDET_FORCE_ISA");  // NOLINT(concurrency-mt-unsafe): read once
  if (forced == nullptr || *forced == '\0') return available.back();
  std::string known;
  for (const Isa isa : available) {
    if (isa_name(isa) == forced) return isa;
    known += known.empty() ? "" : ", ";
    known += isa_name(isa);
  }
  throw InvalidArgument("SWIFTDET_FORCE_ISA: expected one of " + known + " on this machine, got '" + forced + "'");
}

}  // namespace

std::string_view isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx2: return "avx2";
  }
  return "unknown";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas{Isa::kScalar};
  if (processor_has_avx2()) isas.push_back(Isa::kAvx2);
  return isas;
}

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

}  // namespace swiftdet::cpu
