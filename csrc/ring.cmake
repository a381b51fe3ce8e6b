# The ring core as a static library (nr_ring, for the NIF and the tests) and the ring_probe
# executable. Include from csrc/CMakeLists.txt. The portable build has neither.
if(NOT TARGET nr_base)
  add_library(nr_base STATIC "${CMAKE_SOURCE_DIR}/csrc/base/fd.c")
  set_target_properties(nr_base PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(nr_base PUBLIC nr_options)
endif()

if(NOT NET_RUNNER_PORTABLE AND NOT TARGET nr_ring)
  find_package(Threads REQUIRED)
  add_library(nr_ring STATIC
    "${CMAKE_SOURCE_DIR}/csrc/ring.c"
    "${CMAKE_SOURCE_DIR}/csrc/ring_setup.c"
    "${CMAKE_SOURCE_DIR}/csrc/slots.c"
    "${CMAKE_SOURCE_DIR}/csrc/table.c")
  set_target_properties(nr_ring PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(nr_ring PUBLIC nr_options nr_base PkgConfig::LIBURING Threads::Threads)

  add_executable(ring_probe "${CMAKE_SOURCE_DIR}/csrc/probe.c")
  target_link_libraries(ring_probe PRIVATE nr_ring)
endif()
