// OpenVINO's C API, loaded at run time: the library, its functions, and handles that free what it returns.
#pragma once

#include <openvino/c/openvino.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "swiftdet/base/error.hpp"
#include "swiftdet/base/process.hpp"

namespace swiftdet::openvino {

// Every function that we call. All of them exist, with these types, since OpenVINO 2025.0 at the latest.
#define SWIFTDET_OPENVINO_FUNCTIONS(X)                       \
  X(ov_available_devices_free)                               \
  X(ov_compiled_model_create_infer_request)                  \
  X(ov_compiled_model_free)                                  \
  X(ov_compiled_model_get_property)                          \
  X(ov_core_compile_model)                                   \
  X(ov_core_create)                                          \
  X(ov_core_free)                                            \
  X(ov_core_get_available_devices)                           \
  X(ov_core_read_model_from_memory_buffer)                   \
  X(ov_free)                                                 \
  X(ov_get_error_info)                                       \
  X(ov_get_last_err_msg)                                     \
  X(ov_get_openvino_version)                                 \
  X(ov_infer_request_cancel)                                 \
  X(ov_infer_request_free)                                   \
  X(ov_infer_request_get_output_tensor_by_index)             \
  X(ov_infer_request_set_input_tensor_by_index)              \
  X(ov_infer_request_set_output_tensor_by_index)             \
  X(ov_infer_request_start_async)                            \
  X(ov_infer_request_wait)                                   \
  X(ov_infer_request_wait_for)                               \
  X(ov_model_const_input_by_index)                           \
  X(ov_model_const_output_by_index)                          \
  X(ov_model_free)                                           \
  X(ov_model_inputs_size)                                    \
  X(ov_model_outputs_size)                                   \
  X(ov_model_reshape_single_input)                           \
  X(ov_output_const_port_free)                               \
  X(ov_partial_shape_create)                                 \
  X(ov_partial_shape_free)                                   \
  X(ov_port_get_any_name)                                    \
  X(ov_port_get_partial_shape)                               \
  X(ov_preprocess_input_info_free)                           \
  X(ov_preprocess_input_info_get_tensor_info)                \
  X(ov_preprocess_input_tensor_info_free)                    \
  X(ov_preprocess_input_tensor_info_set_element_type)        \
  X(ov_preprocess_output_info_free)                          \
  X(ov_preprocess_output_info_get_tensor_info)               \
  X(ov_preprocess_output_set_element_type)                   \
  X(ov_preprocess_output_tensor_info_free)                   \
  X(ov_preprocess_prepostprocessor_build)                    \
  X(ov_preprocess_prepostprocessor_create)                   \
  X(ov_preprocess_prepostprocessor_free)                     \
  X(ov_preprocess_prepostprocessor_get_input_info_by_index)  \
  X(ov_preprocess_prepostprocessor_get_output_info_by_index) \
  X(ov_shape_free)                                           \
  X(ov_tensor_create_from_host_ptr)                          \
  X(ov_tensor_data)                                          \
  X(ov_tensor_free)                                          \
  X(ov_tensor_get_byte_size)                                 \
  X(ov_tensor_get_shape)                                     \
  X(ov_version_free)

/// The functions of one loaded library, under their own names.
struct Api {
// NOLINTNEXTLINE(bugprone-macro-parentheses): the name that is declared cannot stand in parentheses
#define SWIFTDET_OPENVINO_MEMBER(name) decltype(&::name) name = nullptr;
  SWIFTDET_OPENVINO_FUNCTIONS(SWIFTDET_OPENVINO_MEMBER)
#undef SWIFTDET_OPENVINO_MEMBER
};

/// The codes of element types in the loaded library. The header's enumerators are not used: releases number them
/// differently (2025.0 has one more in front than 2026.4).
struct ElementTypes {
  ov_element_type_e f32{};
  ov_element_type_e i8{};
};

class Library;

/// Frees what the library returned; not in a forked child, where freeing would wait for threads that do not exist.
template <typename T>
class HandleDeleter {
 public:
  using Free = void (*)(T*);
  HandleDeleter() = default;
  HandleDeleter(const Library& library, Free free) noexcept : library_(&library), free_(free) {}
  void operator()(T* object) const noexcept;

 private:
  const Library* library_ = nullptr;
  Free free_ = nullptr;
};

template <typename T>
using Handle = std::unique_ptr<T, HandleDeleter<T>>;

/// One loaded OpenVINO. Never unloaded: its threads and static objects end with the process.
class Library {
 public:
  /// @throw BackendUnavailable  nothing in `folder`, or it does not load, or it lacks what we need.
  explicit Library(const std::filesystem::path& folder);
  ~Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  [[nodiscard]] const Api& api() const noexcept { return api_; }
  [[nodiscard]] const ElementTypes& types() const noexcept { return types_; }
  [[nodiscard]] const std::string& version() const noexcept { return version_; }

  /// False in a child forked after the library was loaded.
  [[nodiscard]] bool in_own_process() const noexcept { return process_.here(); }
  /// @throw UsedAfterFork  in a forked child, where a call might wait forever for threads that do not exist.
  void check_process() const { process_.check("OpenVINO was loaded"); }

  /// OpenVINO's own words on the failed call that returned `status`.
  [[nodiscard]] std::string error_text(ov_status_e status) const;

  /// @throw E  `status` is not OK: "OpenVINO could not <action>: <its own words>".
  template <typename E = BackendError>
  void check(ov_status_e status, std::string_view action) const {
    if (status != ov_status_e::OK) throw E(failure(status, action));
  }

  /// Takes over what `create(T** out) -> ov_status_e` returns. @throw E  as in check().
  template <typename E = BackendError, typename T, typename Create>
  [[nodiscard]] Handle<T> acquire(void (*free)(T*), std::string_view action, Create&& create) const {
    T* object = nullptr;
    check<E>(std::forward<Create>(create)(&object), action);
    return Handle<T>(object, HandleDeleter<T>(*this, free));
  }

 private:
  [[nodiscard]] std::string failure(ov_status_e status, std::string_view action) const;
  [[nodiscard]] ElementTypes find_element_types() const;
  [[nodiscard]] std::string find_version() const;

  Api api_;
  ElementTypes types_;
  std::string version_;
  OwnProcess process_;
};

template <typename T>
void HandleDeleter<T>::operator()(T* object) const noexcept {
  if (library_->in_own_process()) free_(object);
}

}  // namespace swiftdet::openvino
