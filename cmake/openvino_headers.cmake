# Sets SWIFTDET_OPENVINO_INCLUDE_DIR: OpenVINO_INCLUDE_DIR if given, else the headers inside the openvino wheel; and, for
# tests alone, SWIFTDET_OPENVINO_LIBRARY_DIR: the wheel's libraries beside them, which are otherwise found at run time.
# The package is only found, never imported: importing it has side effects.
set(OpenVINO_INCLUDE_DIR "" CACHE PATH "Folder that holds openvino/c/openvino.h")
if(OpenVINO_INCLUDE_DIR)
  set(SWIFTDET_OPENVINO_INCLUDE_DIR ${OpenVINO_INCLUDE_DIR})
else()
  execute_process(
    COMMAND
      ${Python_EXECUTABLE} -c
      "import importlib.util as u, pathlib; s = u.find_spec('openvino'); print(pathlib.Path(s.origin).parent / 'include' if s and s.origin else '', end='')"
    OUTPUT_VARIABLE SWIFTDET_OPENVINO_INCLUDE_DIR)
endif()
if(NOT EXISTS ${SWIFTDET_OPENVINO_INCLUDE_DIR}/openvino/c/openvino.h)
  message(
    FATAL_ERROR
      "OpenVINO's C headers were not found (looked in '${SWIFTDET_OPENVINO_INCLUDE_DIR}'). Install the openvino wheel "
      "into ${Python_EXECUTABLE}, or pass -DOpenVINO_INCLUDE_DIR=..., or -DSWIFTDET_WITH_OPENVINO=OFF")
endif()
set(SWIFTDET_OPENVINO_LIBRARY_DIR ${SWIFTDET_OPENVINO_INCLUDE_DIR}/../libs CACHE PATH "OpenVINO's libraries, for tests")
