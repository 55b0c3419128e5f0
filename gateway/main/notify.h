/* SPDX-License-Identifier: Apache-2.0 */
/* What the service manager is told (sd_notify(3)'s protocol, spoken directly); nothing when there is none. */
#ifndef GATEWAY_MAIN_NOTIFY_H
#define GATEWAY_MAIN_NOTIFY_H

void notify_init(void);      /* once: reads NOTIFY_SOCKET */
void notify_ready(void);
void notify_reloading(void);
void notify_stopping(void);

#endif
