# SIMD bodies: one source file per instruction set, compiled with that set's flag alone, chosen at run time.
#
# Such a file must not emit inline functions of the standard library (std::vector, std::max, ...): the linker might
# keep its copy for the whole program, and a machine without the instruction set would crash elsewhere.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(SWIFTDET_ISA_X86 ON)
else()
  set(SWIFTDET_ISA_X86 OFF)
endif()

# swiftdet_add_avx2_sources(<target> <file>...): does nothing on other processors.
function(swiftdet_add_avx2_sources target)
  if(NOT SWIFTDET_ISA_X86)
    return()
  endif()
  target_sources(${target} PRIVATE ${ARGN})
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "-mavx2")
endfunction()
