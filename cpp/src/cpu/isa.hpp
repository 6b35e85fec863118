// Which SIMD bodies run on this machine.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace swiftdet::cpu {

/// Instruction sets with bodies of their own, weakest first. kScalar exists everywhere and is the specification.
enum class Isa : std::uint8_t { kScalar, kAvx2 };

[[nodiscard]] std::string_view isa_name(Isa isa) noexcept;

/// What this build contains and this processor executes, weakest first.
[[nodiscard]] std::vector<Isa> available_isas();

/// The set that the operations use: the strongest available, or the one named by SWIFTDET_FORCE_ISA, read once.
/// @throw InvalidArgument  SWIFTDET_FORCE_ISA names no set, or one that this machine lacks.
[[nodiscard]] Isa active_isa();

}  // namespace swiftdet::cpu
