# Whether the CUDA half is built, for which GPUs and with which flags. Sets SWIFTDET_CUDA (ON or OFF).
#
# AUTO builds it where a GPU is visible, for that GPU; ON builds it for every architecture that the compiler knows among
# SWIFTDET_ALL_CUDA_ARCHITECTURES, plus PTX of the newest, unless SWIFTDET_CUDA_ARCHITECTURES says otherwise.
# Must be included by the top CMakeLists.txt: a language is enabled there or nowhere.
set(SWIFTDET_WITH_CUDA AUTO CACHE STRING "Build the CUDA kernels: AUTO (where a GPU is visible), ON or OFF")
set_property(CACHE SWIFTDET_WITH_CUDA PROPERTY STRINGS AUTO ON OFF)
set(SWIFTDET_CUDA_ARCHITECTURES "" CACHE STRING "As CMAKE_CUDA_ARCHITECTURES; empty: chosen as cmake/cuda.cmake says")
# The tests replace the runtime by a stand-in of the same name, which only a shared one allows.
set(SWIFTDET_CUDA_RUNTIME Static CACHE STRING "CUDA's runtime inside the extension: Static, or Shared for tests")
set(SWIFTDET_ALL_CUDA_ARCHITECTURES 75 80 86 89 90 100 120)

# The compute capabilities of the GPUs that the driver shows, e.g. "75;86"; empty where there is none.
function(swiftdet_visible_gpus result)
  find_program(SWIFTDET_NVIDIA_SMI nvidia-smi)
  set(found "")
  if(SWIFTDET_NVIDIA_SMI)
    execute_process(
      COMMAND ${SWIFTDET_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE output
      ERROR_QUIET
      RESULT_VARIABLE status)
    if(status EQUAL 0)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]+" found "${output}")
      list(TRANSFORM found REPLACE "\\." "")
      list(REMOVE_DUPLICATES found)
    endif()
  endif()
  set(${result} "${found}" PARENT_SCOPE)
endfunction()

# swiftdet_add_cuda_flags(<target>): what every .cu file of the package is compiled with.
#
# --fmad=false: a product and a sum are rounded one after the other, as on the CPU (-ffp-contract=off), so that both give
# the same bits. --expt-relaxed-constexpr: the formulas that host and device share use std::bit_cast and the like.
function(swiftdet_add_cuda_flags target)
  set(options --fmad=false --expt-relaxed-constexpr -Xcompiler=-ffp-contract=off,-Wall,-Wextra)
  if(SWIFTDET_WERROR)
    list(APPEND options -Werror=all-warnings)
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
endfunction()

set(SWIFTDET_CUDA OFF)
set(architectures "${SWIFTDET_CUDA_ARCHITECTURES}")
if(SWIFTDET_WITH_CUDA STREQUAL "AUTO")
  swiftdet_visible_gpus(visible)
  if(visible)
    set(SWIFTDET_CUDA ON)
    if(NOT architectures)
      set(architectures "${visible}")
      list(TRANSFORM architectures APPEND "-real")
    endif()
  endif()
elseif(SWIFTDET_WITH_CUDA)
  set(SWIFTDET_CUDA ON)
endif()

if(SWIFTDET_CUDA)
  find_program(
    SWIFTDET_NVCC nvcc
    HINTS ${CUDAToolkit_ROOT}/bin ENV CUDAToolkit_ROOT ENV CUDA_PATH
    PATHS /usr/local/cuda/bin /opt/cuda/bin
    PATH_SUFFIXES bin)
  if(SWIFTDET_NVCC AND NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER ${SWIFTDET_NVCC})
  endif()
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(missing
        "no nvcc was found (looked in PATH, CUDAToolkit_ROOT, CUDA_PATH and /usr/local/cuda). Install NVIDIA's CUDA "
        "toolkit or name its folder by -DCUDAToolkit_ROOT=...")
    if(SWIFTDET_WITH_CUDA STREQUAL "AUTO")
      message(WARNING "A GPU is visible, but " ${missing} ". Building WITHOUT CUDA: device=\"cuda\" will not work.")
      set(SWIFTDET_CUDA OFF)
    else()
      message(FATAL_ERROR "SWIFTDET_WITH_CUDA=ON, but " ${missing})
    endif()
  endif()
endif()

if(SWIFTDET_CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  if(NOT CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  endif()
  if(SWIFTDET_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${SWIFTDET_CCACHE})
  endif()
  if(NOT architectures)
    set(CMAKE_CUDA_ARCHITECTURES OFF) # the compiler has not been asked yet which it knows
  else()
    set(CMAKE_CUDA_ARCHITECTURES "${architectures}")
  endif()
  enable_language(CUDA)
  if(NOT architectures)
    set(architectures ${SWIFTDET_ALL_CUDA_ARCHITECTURES})
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8) # the first with Blackwell
      list(FILTER architectures EXCLUDE REGEX "^1[0-9][0-9]$")
    endif()
    list(POP_BACK architectures newest)
    list(TRANSFORM architectures APPEND "-real")
    list(APPEND architectures ${newest}) # machine code and PTX
    set(CMAKE_CUDA_ARCHITECTURES "${architectures}")
  endif()
  message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
endif()
