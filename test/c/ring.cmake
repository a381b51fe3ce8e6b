# Tests of the ring core. Include from test/c/CMakeLists.txt (it needs the target nr_ring, from
# csrc/ring.cmake; the portable build has none).
if(NOT NET_RUNNER_PORTABLE AND TARGET nr_ring)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(CHECK REQUIRED IMPORTED_TARGET check)

  foreach(nr_test test_ring test_ring_stress)
    add_executable(${nr_test} "${CMAKE_SOURCE_DIR}/test/c/${nr_test}.c")
    set_target_properties(${nr_test} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/test")
    target_link_libraries(${nr_test} PRIVATE nr_ring PkgConfig::CHECK)
    add_test(NAME ${nr_test} COMMAND ${nr_test})
    # 77: this machine has no io_uring for us; the reason is printed.
    set_tests_properties(${nr_test} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600)
  endforeach()

  # The system-call seam of test_ring: what the kernel answers, and what happens meanwhile.
  target_link_options(test_ring PRIVATE
    -Wl,--wrap=io_uring_submit
    -Wl,--wrap=io_uring_queue_init_params
    -Wl,--wrap=io_uring_register_buffers
    -Wl,--wrap=io_uring_register_eventfd
    -Wl,--wrap=calloc
    -Wl,--wrap=reallocarray
    -Wl,--wrap=mmap
    -Wl,--wrap=madvise
    -Wl,--wrap=eventfd
    -Wl,--wrap=pipe2
    -Wl,--wrap=pthread_mutex_unlock)

  add_test(NAME ring_probe COMMAND ring_probe)
  set_tests_properties(ring_probe PROPERTIES
    PASS_REGULAR_EXPRESSION "^(ok registered=[01] nowait=[01]|error [a-z-]+ [A-Z0-9]+)\n$")
endif()
