/* A lifecycle plugin in C: tells each container how many CPUs the node has, by a variable, and
 * refuses the containers of pods that ask for that. plugin.h is wit-bindgen's, made by
 * scripts/build-c-plugin.sh from guest-sdk/wit.
 *
 * wit-bindgen's rules: a hook owns its arguments, which it frees, and what it answers is freed for
 * it. true is success. */
#include "plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What it asks for, in a section of its own, as the Rust SDK writes it. */
__asm__(".section \".custom_section.wasmpod:plugin\",\"\",@\n"
        ".ascii \"{\\\"functions\\\":[\\\"cpu.topology\\\"],\\\"fields\\\":[\\\"env\\\"],"
        "\\\"namespaces\\\":[\\\"*\\\"]}\"\n"
        ".text\n");

#define HOOK(name) exports_wasmpod_lifecycle_node_hooks_##name

typedef HOOK(pod_t) pod_t;
typedef HOOK(container_t) container_t;
typedef HOOK(resources_t) resources_t;

static const char REFUSE[] = "c-plugin.example/refuse";

static bool is(const plugin_string_t *text, const char *word) {
    return text->len == strlen(word) && memcmp(text->ptr, word, text->len) == 0;
}

bool HOOK(configure)(HOOK(runtime_info_t) * info, plugin_string_t *settings, HOOK(hooks_t) * hooks,
                     plugin_string_t *error) {
    (void)error;
    HOOK(runtime_info_free)(info);
    plugin_string_free(settings);
    *hooks = WASMPOD_LIFECYCLE_TYPES_HOOKS_PRE_CREATE_CONTAINER;
    return true;
}

bool HOOK(pre_create_container)(pod_t *pod, container_t *container, HOOK(adjustment_t) * made,
                                plugin_string_t *error) {
    bool refused = false;
    for (size_t place = 0; place < pod->annotations.len; place++)
        refused = refused || is(&pod->annotations.ptr[place].f0, REFUSE);
    HOOK(pod_free)(pod);
    HOOK(container_free)(container);
    if (refused) {
        plugin_string_dup(error, "the pod's annotation c-plugin.example/refuse says so");
        return false;
    }

    wasmpod_lifecycle_cpu_layout_t layout;
    wasmpod_lifecycle_cpu_topology(&layout);
    char count[16];
    snprintf(count, sizeof count, "%zu", layout.cpus.len);
    wasmpod_lifecycle_cpu_layout_free(&layout);

    memset(made, 0, sizeof *made);
    made->set_env.ptr = malloc(sizeof *made->set_env.ptr);
    if (made->set_env.ptr == NULL) abort();
    made->set_env.len = 1;
    plugin_string_dup(&made->set_env.ptr[0].f0, "NODE_CPUS");
    plugin_string_dup(&made->set_env.ptr[0].f1, count);
    return true;
}

/* The other hooks are not asked for. They exist because the interface has them. */

bool HOOK(synchronize)(HOOK(list_pod_t) * pods, HOOK(list_container_t) * containers,
                       HOOK(list_container_update_t) * updates, plugin_string_t *error) {
    (void)error;
    HOOK(list_pod_free)(pods);
    HOOK(list_container_free)(containers);
    memset(updates, 0, sizeof *updates);
    return true;
}

void HOOK(shutdown)(void) {}

#define OF_POD(name)                                 \
    bool HOOK(name)(pod_t * pod, plugin_string_t *error) { \
        (void)error;                                 \
        HOOK(pod_free)(pod);                         \
        return true;                                 \
    }

#define OF_CONTAINER(name)                                                       \
    bool HOOK(name)(pod_t * pod, container_t * container, plugin_string_t *error) { \
        (void)error;                                                             \
        HOOK(pod_free)(pod);                                                     \
        HOOK(container_free)(container);                                         \
        return true;                                                             \
    }

#define OF_AN_END(name)                                                              \
    bool HOOK(name)(pod_t * pod, container_t * container,                            \
                    HOOK(list_container_update_t) * updates, plugin_string_t *error) { \
        (void)error;                                                                 \
        HOOK(pod_free)(pod);                                                         \
        HOOK(container_free)(container);                                             \
        memset(updates, 0, sizeof *updates);                                         \
        return true;                                                                 \
    }

OF_POD(run_pod_sandbox)
OF_POD(stop_pod_sandbox)
OF_POD(remove_pod_sandbox)
OF_POD(post_update_pod_sandbox)
OF_CONTAINER(post_create_container)
OF_CONTAINER(pre_start_container)
OF_CONTAINER(post_start_container)
OF_CONTAINER(post_update_container)
OF_CONTAINER(pre_stop_container)
OF_CONTAINER(remove_container)
OF_AN_END(post_stop_container)
OF_AN_END(container_exited)

bool HOOK(update_pod_sandbox)(pod_t *pod, resources_t *overhead, resources_t *wanted,
                              plugin_string_t *error) {
    (void)error;
    HOOK(pod_free)(pod);
    if (overhead != NULL) HOOK(resources_free)(overhead);
    if (wanted != NULL) HOOK(resources_free)(wanted);
    return true;
}

bool HOOK(update_container)(pod_t *pod, container_t *container, resources_t *wanted,
                            HOOK(resource_change_t) * change, plugin_string_t *error) {
    (void)error;
    HOOK(pod_free)(pod);
    HOOK(container_free)(container);
    HOOK(resources_free)(wanted);
    memset(change, 0, sizeof *change);
    return true;
}

bool HOOK(image_pulled)(HOOK(image_t) * image, plugin_string_t *error) {
    (void)error;
    HOOK(image_free)(image);
    return true;
}

bool HOOK(validate_container)(pod_t *pod, container_t *container, plugin_list_string_t *adjusted_by,
                              plugin_string_t *error) {
    (void)error;
    HOOK(pod_free)(pod);
    HOOK(container_free)(container);
    plugin_list_string_free(adjusted_by);
    return true;
}
