#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "cpu/isa.hpp"

using swiftdet::cpu::Isa;

TEST_CASE("the scalar bodies exist on every machine") {
  CHECK(swiftdet::cpu::available_isas().front() == Isa::kScalar);
}

TEST_CASE("the active set is the forced one, else the strongest") {
  const char* const forced = std::getenv("SWIFTDET_FORCE_ISA");
  if (forced != nullptr && *forced != '\0') {
    CHECK(swiftdet::cpu::isa_name(swiftdet::cpu::active_isa()) == std::string(forced));
  } else {
    CHECK(swiftdet::cpu::active_isa() == swiftdet::cpu::available_isas().back());
  }
}
