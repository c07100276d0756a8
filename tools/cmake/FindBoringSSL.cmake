# Target BoringSSL::ssl: Debian's android-libboringssl-dev keeps it out of the way of OpenSSL, in folders named android.
find_path(BORINGSSL_INCLUDE_DIR openssl/is_boringssl.h PATHS /usr/include/android /usr/local/include/boringssl)
find_library(BORINGSSL_SSL ssl PATHS /usr/lib /usr/local/lib PATH_SUFFIXES ${CMAKE_LIBRARY_ARCHITECTURE}/android
  android boringssl NO_DEFAULT_PATH)
find_library(BORINGSSL_CRYPTO crypto PATHS /usr/lib /usr/local/lib PATH_SUFFIXES ${CMAKE_LIBRARY_ARCHITECTURE}/android
  android boringssl NO_DEFAULT_PATH)
if(NOT BORINGSSL_INCLUDE_DIR OR NOT BORINGSSL_SSL OR NOT BORINGSSL_CRYPTO)
  message(FATAL_ERROR "BoringSSL was not found. Debian, Ubuntu: apt-get install android-libboringssl-dev")
endif()
get_filename_component(boringssl_dir ${BORINGSSL_SSL} DIRECTORY)
add_library(BoringSSL::ssl INTERFACE IMPORTED)
target_include_directories(BoringSSL::ssl SYSTEM INTERFACE ${BORINGSSL_INCLUDE_DIR})
target_link_libraries(BoringSSL::ssl INTERFACE ${BORINGSSL_SSL} ${BORINGSSL_CRYPTO})
target_link_options(BoringSSL::ssl INTERFACE -Wl,-rpath,${boringssl_dir} -Wl,-z,defs)
