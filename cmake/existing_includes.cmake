# ROS 2's PyPI wheels export include folders of the machine that built them, and CMake refuses a folder that is not there.
# To be included after the find_package calls and before rosidl_generate_interfaces.
get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
list(FILTER targets INCLUDE REGEX "__rosidl_generator_py$")
foreach(target IN LISTS targets)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  set(existing "")
  foreach(folder IN LISTS folders)
    if(EXISTS "${folder}")
      list(APPEND existing "${folder}")
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${existing}")
endforeach()
