/** Any JSON value. Members of objects are own properties; `__proto__` is refused at the boundary (`TWIN_VALUE`). */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [member: string]: Json }
