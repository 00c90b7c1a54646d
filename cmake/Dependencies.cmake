# Every outside library, as one imported target each. Debian packages but for LibTorch, which
# comes from the PyTorch wheel that ./dev setup unpacks.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(Protobuf REQUIRED)
find_package(RocksDB REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(tl-expected REQUIRED)
find_package(ZLIB REQUIRED)
find_package(GTest REQUIRED)
find_package(Gloo REQUIRED)
pkg_check_modules(zmq REQUIRED IMPORTED_TARGET libzmq)
pkg_check_modules(ffmpeg REQUIRED IMPORTED_TARGET libavformat libavcodec libavutil libavfilter
                  libswscale libswresample)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(icu REQUIRED IMPORTED_TARGET icu-uc)
pkg_check_modules(sodium REQUIRED IMPORTED_TARGET libsodium)
# Debian's library has TLS and compression in its classes: the flags of its .pc file are part of its ABI.
pkg_check_modules(httplib REQUIRED IMPORTED_TARGET cpp-httplib)
pkg_check_modules(prometheus REQUIRED IMPORTED_TARGET prometheus-cpp-core)
find_file(CRABCAST_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js REQUIRED)

# CAF: Debian ships headers and libraries, but no CMake or pkg-config file.
find_library(CAF_CORE_LIBRARY caf_core REQUIRED)
find_path(CAF_INCLUDE_DIR caf/all.hpp REQUIRED)
add_library(caf_core INTERFACE IMPORTED)
target_link_libraries(caf_core INTERFACE ${CAF_CORE_LIBRARY} Threads::Threads)

# LibTorch. Its include folder ships old google/protobuf and fmt headers, which must never win
# over Debian's: -idirafter puts them last.
if(NOT CRABCAST_LIBTORCH)
  set(flavour cpu)
  if(CRABCAST_CUDA)
    set(flavour cuda)
  endif()
  set(cache_home $ENV{XDG_CACHE_HOME})
  if(NOT cache_home)
    set(cache_home $ENV{HOME}/.cache)
  endif()
  set(CRABCAST_LIBTORCH ${cache_home}/crabcast/libtorch-2.11.0-${flavour})
endif()
set(torch_lib ${CRABCAST_LIBTORCH}/torch/lib)
set(cuda_lib ${CRABCAST_LIBTORCH}/nvidia/cu13/lib)
if(NOT EXISTS ${torch_lib}/libtorch_cpu.so)
  message(FATAL_ERROR "LibTorch is not in ${CRABCAST_LIBTORCH}. Run ./dev setup, or set "
                      "CRABCAST_LIBTORCH to a folder made by 'pip install --target'.")
endif()
add_library(torch_cpu INTERFACE IMPORTED)
foreach(folder include include/torch/csrc/api/include)
  # nvcc does not know -idirafter; what it compiles includes neither protobuf nor fmt.
  target_compile_options(torch_cpu INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${CRABCAST_LIBTORCH}/torch/${folder}>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-isystem ${CRABCAST_LIBTORCH}/torch/${folder}>")
endforeach()
target_link_libraries(torch_cpu INTERFACE ${torch_lib}/libtorch_cpu.so ${torch_lib}/libc10.so)
target_link_options(torch_cpu INTERFACE
  -Wl,-rpath,${torch_lib} -Wl,-rpath,${cuda_lib} -Wl,-rpath-link,${cuda_lib} -Wl,--disable-new-dtags)

if(CRABCAST_CUDA)
  find_package(CUDAToolkit REQUIRED)
  find_library(NCCL_LIBRARY nccl REQUIRED HINTS ${CUDAToolkit_LIBRARY_DIR} /usr/local/cuda/lib)
  add_library(nccl INTERFACE IMPORTED)
  target_include_directories(nccl INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(nccl INTERFACE ${NCCL_LIBRARY} CUDA::cudart)
  add_library(torch_cuda INTERFACE IMPORTED)
  # --no-as-needed: libtorch_cuda registers its kernels when it is loaded; no symbol refers to it.
  target_link_libraries(torch_cuda INTERFACE torch_cpu -Wl,--no-as-needed
    ${torch_lib}/libtorch_cuda.so -Wl,--as-needed ${torch_lib}/libc10_cuda.so CUDA::cudart)
endif()
