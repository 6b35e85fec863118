# Sets SWIFTDET_TENSORRT (ON or OFF), SWIFTDET_TENSORRT_INCLUDE_DIR, _MAJOR and _VERSION: TensorRT's C++ headers, which no
# wheel of TensorRT carries. Looked for in TensorRT_ROOT, then on the system, then, only if SWIFTDET_FETCH_TENSORRT_HEADERS
# says so, in a wheel of a pinned version and checksum. The library itself is found at run time.
set(SWIFTDET_WITH_TENSORRT AUTO CACHE STRING "Build the TensorRT engine: AUTO (with CUDA, where headers are), ON or OFF")
set_property(CACHE SWIFTDET_WITH_TENSORRT PROPERTY STRINGS AUTO ON OFF)
option(SWIFTDET_FETCH_TENSORRT_HEADERS "Where no TensorRT headers are, download them with pip (pinned, checked)" OFF)

set(SWIFTDET_TENSORRT OFF)
set(SWIFTDET_TENSORRT_VERSION "")
if(NOT SWIFTDET_WITH_TENSORRT OR (SWIFTDET_WITH_TENSORRT STREQUAL "AUTO" AND NOT SWIFTDET_CUDA))
  return()
endif()
if(NOT SWIFTDET_CUDA)
  message(FATAL_ERROR "SWIFTDET_WITH_TENSORRT=ON needs CUDA: add -DSWIFTDET_WITH_CUDA=ON")
endif()

find_path(
  SWIFTDET_TENSORRT_INCLUDE_DIR NvInferRuntime.h
  HINTS ${TensorRT_ROOT} ENV TensorRT_ROOT ENV TENSORRT_ROOT
  PATHS /usr/local/tensorrt /opt/tensorrt /usr/src/tensorrt
  PATH_SUFFIXES include include/x86_64-linux-gnu include/aarch64-linux-gnu)
if(NOT SWIFTDET_TENSORRT_INCLUDE_DIR AND SWIFTDET_FETCH_TENSORRT_HEADERS)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
  set(folder ${PROJECT_BINARY_DIR}/tensorrt_headers)
  execute_process(
    COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/fetch_tensorrt_headers.py ${folder}
    RESULT_VARIABLE status
    ERROR_VARIABLE why)
  if(status EQUAL 0)
    set(SWIFTDET_TENSORRT_INCLUDE_DIR ${folder} CACHE PATH "Folder that holds NvInferRuntime.h" FORCE)
  else()
    message(WARNING "TensorRT's headers could not be fetched: ${why}")
  endif()
endif()
if(NOT SWIFTDET_TENSORRT_INCLUDE_DIR)
  set(missing
      "TensorRT's headers (NvInferRuntime.h) were not found in TensorRT_ROOT or on the system. Install TensorRT's "
      "development package and pass -DTensorRT_ROOT=..., or let them be downloaded: -DSWIFTDET_FETCH_TENSORRT_HEADERS=ON")
  if(SWIFTDET_WITH_TENSORRT STREQUAL "AUTO")
    message(WARNING ${missing} ". Building WITHOUT TensorRT: device=\"cuda\" will not work.")
    return()
  endif()
  message(FATAL_ERROR ${missing})
endif()

# Releases since 10.13 name the parts twice, the older ones once.
file(READ ${SWIFTDET_TENSORRT_INCLUDE_DIR}/NvInferVersion.h text)
foreach(part MAJOR MINOR PATCH)
  if(text MATCHES "#define (TRT_${part}_ENTERPRISE|NV_TENSORRT_${part}) ([0-9]+)")
    set(SWIFTDET_TENSORRT_${part} ${CMAKE_MATCH_2})
  else()
    message(FATAL_ERROR "${SWIFTDET_TENSORRT_INCLUDE_DIR}/NvInferVersion.h does not say its ${part} version")
  endif()
endforeach()
set(SWIFTDET_TENSORRT_VERSION ${SWIFTDET_TENSORRT_MAJOR}.${SWIFTDET_TENSORRT_MINOR}.${SWIFTDET_TENSORRT_PATCH})
if(SWIFTDET_TENSORRT_VERSION VERSION_LESS 10.0)
  message(FATAL_ERROR "TensorRT 10 or newer is needed, ${SWIFTDET_TENSORRT_INCLUDE_DIR} holds ${SWIFTDET_TENSORRT_VERSION}")
endif()
set(SWIFTDET_TENSORRT ON)
message(STATUS "TensorRT headers ${SWIFTDET_TENSORRT_VERSION} in ${SWIFTDET_TENSORRT_INCLUDE_DIR}")
