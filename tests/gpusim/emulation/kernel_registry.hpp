// The kernels that were compiled for the CPU, by address and by name.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emulation/block.hpp"

namespace emulation {

/// A kernel compiled for the CPU.
struct Twin {
  std::string_view name;  ///< as a demangler writes it, without the parameters: "a::scan_kernel<float>"
  const void* function = nullptr;
  /// Copies the arguments, as a launch does; the launch itself is the call of the result.
  std::function<void()> (*bind)(const GridShape& shape, void** arguments) = nullptr;
};

void register_twin(const Twin& twin);
/// Null where there is none. Two names, as text would be taken for an address.
[[nodiscard]] const Twin* find_twin(const void* function);
[[nodiscard]] const Twin* find_twin_named(std::string_view name);

namespace detail {

template <typename... Parameters>
struct Call {
  void (*kernel)(Parameters...);
  std::tuple<std::remove_cv_t<Parameters>...> arguments;
};

template <auto kKernel>
struct Binding;

template <typename... Parameters, void (*kKernel)(Parameters...)>
struct Binding<kKernel> {
  static std::function<void()> bind(const GridShape& shape, void** arguments) {
    return bind_each(shape, arguments, std::index_sequence_for<Parameters...>{});
  }

  template <std::size_t... kIndices>
  static std::function<void()> bind_each(const GridShape& shape, void** arguments, std::index_sequence<kIndices...>) {
    const auto call = std::make_shared<const Call<Parameters...>>(
        Call<Parameters...>{kKernel, {*static_cast<std::remove_cv_t<Parameters>*>(arguments[kIndices])...}});
    return [shape, call] {
      run_grid(
          shape,
          [](const void* context) {
            const auto& bound = *static_cast<const Call<Parameters...>*>(context);
            std::apply(bound.kernel, bound.arguments);
          },
          call.get());
    };
  }
};

/// "a::scan_kernel<float>", cut out of this function's own name.
template <auto kKernel>
std::string_view name_of() {
  std::string_view name = __PRETTY_FUNCTION__;
  name.remove_prefix(name.find("kKernel = ") + std::string_view("kKernel = ").size());
  return name.substr(0, name.find_first_of(";]"));
}

template <auto kKernel>
struct Registration {
  static inline const bool kDone = [] {
    register_twin({name_of<kKernel>(), reinterpret_cast<const void*>(kKernel), Binding<kKernel>::bind});
    return true;
  }();
};

}  // namespace detail

/// Registers kKernel when the program starts, wherever this call is.
template <auto kKernel>
void announce() {
  static_cast<void>(detail::Registration<kKernel>::kDone);
}

}  // namespace emulation
