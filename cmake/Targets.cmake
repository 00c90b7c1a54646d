# The project's own kinds of target.

include(CTest)
include(GoogleTest)

# crabcast_library(NAME [LINK libs...]): every source of the calling folder as one static library.
function(crabcast_library name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cpp)
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${arg_LINK})
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${arg_LINK})
endfunction()

# crabcast_tests(FOLDER LABEL [LINK libs...] [TIMEOUT seconds]): every source of tests/FOLDER as one
# program test_FOLDER, one ctest entry, under a label. A program in which no test ran fails
# (tests/support/main.cpp).
function(crabcast_tests folder label)
  cmake_parse_arguments(arg "" "TIMEOUT" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cpp)
  if(NOT sources)
    return()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  set(name test_${folder})
  add_executable(${name} ${sources} ${CMAKE_SOURCE_DIR}/tests/support/main.cpp)
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gtest GTest::gmock)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  add_test(NAME ${folder} COMMAND ${name})
  set_tests_properties(${folder} PROPERTIES LABELS ${label} TIMEOUT ${arg_TIMEOUT}
    ENVIRONMENT "CRABCAST_BIN=${CMAKE_BINARY_DIR}/bin;CRABCAST_SOURCE=${CMAKE_SOURCE_DIR}")
  if(label STREQUAL gpu)
    # Without a GPU all of its tests are skipped, and ctest should say so.
    set_tests_properties(${folder} PROPERTIES SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\] [0-9]+ test")
  endif()
endfunction()

# crabcast_bench(NAME [LINK libs...]): bench/NAME.cpp as the program bench_NAME (./dev bench NAME).
function(crabcast_bench name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${name}.cpp)
    add_executable(bench_${name} ${name}.cpp)
    target_link_libraries(bench_${name} PRIVATE ${arg_LINK})
    target_include_directories(bench_${name} PRIVATE ${CMAKE_SOURCE_DIR})
  endif()
endfunction()
