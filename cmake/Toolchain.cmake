# Compiler cache, linker, warnings and sanitizers: what every target of the project shares.

find_program(CRABCAST_CCACHE ccache)
if(CRABCAST_CCACHE)
  # Relative paths and sloppiness for the precompiled header let a second clone hit the cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${CRABCAST_CCACHE})
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
endif()

find_program(CRABCAST_MOLD mold)
if(CRABCAST_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# -g1 keeps line numbers for backtraces at a fraction of the size of full debug information.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
add_compile_options(
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror=return-type;-Werror=unused-result>")

if(CRABCAST_SANITIZE)
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")
  # -fno-sanitize=null: CAF 0.17.6 itself binds null references when an actor is spawned.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=null -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
message(STATUS "Sanitizers (address, undefined): ${CRABCAST_SANITIZE}")

if(CRABCAST_CUDA)
  # Machine code for A100 and H100, and an intermediate form for whatever comes after. The standard
  # is a flag because CMake 3.25 does not know C++20 for this nvcc.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
  set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # the one that LibTorch uses
  set(CMAKE_CUDA_FLAGS "-std=c++20 -lineinfo")
  set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3")
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS /usr/local/cuda/bin REQUIRED)
  enable_language(CUDA)
endif()
