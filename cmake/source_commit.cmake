# SWIFTDET_COMMIT: the commit that is built, with "+changes" where tracked files differ from it; empty outside a clone.
# As of the configuration: `pip install` configures anew each time.
set(SWIFTDET_COMMIT "")
find_program(SWIFTDET_GIT git)
if(SWIFTDET_GIT AND EXISTS ${PROJECT_SOURCE_DIR}/.git)
  execute_process(
    COMMAND ${SWIFTDET_GIT} describe --always --dirty=+changes --abbrev=40 --exclude=*
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    OUTPUT_VARIABLE SWIFTDET_COMMIT
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
