# Compiler cache, linker, warnings and sanitizers: what every target of the project shares.

find_program(CRABCAST_CCACHE ccache)
if(CRABCAST_CCACHE)
  # Relative paths and sloppiness for the precompiled header let a second clone hit the cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${CRABCAST_CCACHE})
  add_compile_options(-fpch-preprocess)
endif()

find_program(CRABCAST_MOLD mold)
if(CRABCAST_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

# -g1 keeps line numbers for backtraces at a fraction of the size of full debug information.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
add_compile_options(-Wall -Wextra -Werror=return-type -Werror=unused-result)

if(CRABCAST_SANITIZE)
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")
  # -fno-sanitize=null: CAF 0.17.6 itself binds null references when an actor is spawned.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=null -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
message(STATUS "Sanitizers (address, undefined): ${CRABCAST_SANITIZE}")
