# What every target of the core is compiled with: strict warnings, no contraction, optional sanitizers.
#
# -ffp-contract=off: a * b + c is rounded twice, everywhere, so that scalar, SIMD and CUDA bodies agree bit for
# bit. There is no global -ffast-math and no -march=native; wider instructions are chosen at run time (isa.cmake).
# nvcc's own options are in cuda.cmake.
add_library(swiftdet_options INTERFACE)
set(options
    -ffp-contract=off
    -Wall
    -Wextra
    -Wpedantic
    -Wconversion
    -Wshadow
    -Wnon-virtual-dtor
    -Woverloaded-virtual)
if(SWIFTDET_WERROR)
  list(APPEND options -Werror)
endif()
if(SWIFTDET_SANITIZE)
  if(SWIFTDET_SANITIZE MATCHES "address" AND SWIFTDET_SANITIZE MATCHES "thread")
    message(FATAL_ERROR "SWIFTDET_SANITIZE: the address and thread sanitizers exclude one another")
  endif()
  list(APPEND options -fsanitize=${SWIFTDET_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # nvcc links too, and knows no sanitizers: what it links finds their libraries in the process.
  target_link_options(swiftdet_options INTERFACE $<$<LINK_LANGUAGE:CXX>:-fsanitize=${SWIFTDET_SANITIZE}>)
endif()
if(SWIFTDET_COVERAGE)
  # Atomic: kernels' tests and sessions run on several threads. The library by name: nvcc links too, and knows no
  # --coverage.
  list(APPEND options --coverage -fprofile-update=atomic -O1)
  target_link_libraries(swiftdet_options INTERFACE gcov)
endif()
target_compile_options(swiftdet_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${options}>")
