/* SPDX-License-Identifier: Apache-2.0 */
/* Links one role with the objects it needs and no other (Makefile, ROLES): what is missing from its list does not resolve. Never run. */
#include "gateway/main/roles.h"

int main(void)
{
	struct role_env env = { 0 };

	return ROLE_MAIN(&env);
}
