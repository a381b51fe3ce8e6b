# Included by CMake right after project(net_runner) in the sanitizer leg of ci/test
# (CMAKE_PROJECT_net_runner_INCLUDE). NET_RUNNER_REPORTS is the folder for reports.
add_library(nr_sanitizer_options OBJECT "${CMAKE_CURRENT_LIST_DIR}/options.c")
set_target_properties(nr_sanitizer_options PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_compile_definitions(nr_sanitizer_options PRIVATE "NET_RUNNER_REPORTS=\"${NET_RUNNER_REPORTS}\"")
link_libraries(nr_sanitizer_options)
# GCC's shared libubsan does not heed log_path beside libasan.
add_link_options(-static-libubsan)
