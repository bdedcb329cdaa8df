#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes templates.json: templates, chats, and what Jinja2 renders for them, set up as transformers does it."""
import json
import pathlib

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
U, A, S = "user", "assistant", "system"
SHORT = [[U, "Hi"]]
LONG = [[S, " Be brief. "], [U, "What's 2+2?"], [A, "<think>add</think>\n4"], [U, "日本 \"q\" <b>\n\tß "]]

EXPRESSIONS = """
1 + 2 * 3 - 4 // 3 | 7 % 3 | -7 // 2 | -7 % 3 | 7 / 2 | 1.5 * 2 | 2 ~ 'a' ~ none ~ true
'a' 'b' | "it's" | 'say "x"' | '\\n\\t\\x41\\u00e9\\q' | [1, 'a', none, true, 1.5] | {'a': 1, 'b': [2, "it's"]} | [] | {}
not true | not 1 == 2 | 1 < 2 < 3 | 1 < 2 > 5 | 'a' in 'abc' | 'd' not in 'abc' | 2 in [1, 2] | 'a' in {'a': 1} | not 'a' in 'b'
true and 'x' | 0 or 'y' | '' or none | 1 and 0 or 2 | 'x' if false else 'y' | ('x' if false) | 'x' if messages else 'z'
messages[0].role | messages[0]['content'] | messages[-1]['role'] | messages | length | messages[1:] | length | messages[:-1] | length
messages[::-1] | map(attribute='role') | join(',') | missing | missing is defined | messages[0].nothing is defined | none is none
'abc'[1] | 'abc'[-1] | 'abcdef'[1:4] | 'abcdef'[::2] | 'abcdef'[::-1] | 'äöü'[1:] | 'abc'[7] is undefined | [1,2,3][5:] | [1,2,3][-2:]
'  x '|trim + '|' | 'xxaxx' | trim('x') | 'aBc' | upper | 'aBc' | lower | 'aBC dE' | capitalize | 'ß' | upper | 'abc' | length | 'äö' | length
missing | default('d') | none | default('d') | '' | default('d', true) | 'x' | default('d') | false | default('d', boolean=true) | missing | d('e')
messages[0] | tojson | {'b': 1, 'a': [1, 2.5, none, true, 'é"\\n']} | tojson | {'a': [1, {'b': []}], 'c': {}} | tojson(indent=2) | [] | tojson(indent=4)
[1,2,3] | first | [1,2,3] | last | ['a','b'] | join | ['a','b'] | join('-') | 'abc' | list | 'abc' | reverse | [3,1] | reverse | list | '12' | int | 'x' | int | 3.9 | int
'a-b-a' | replace('a', 'xy') | 'a.b.c'.split('.') | 'a b  c'.split() | 'a.b.c'.split('.', 1) | ' x '.strip() ~ '|' | 'xxa'.lstrip('x') | 'axx'.rstrip('x')
'abc'.startswith('ab') | 'abc'.endswith('x') | 'abc'.upper() | 'hello world'.title() | 'aXbX'.replace('X', '-') | 'Ab'.lower() | 'ab c'.capitalize()
{'a': 1, 'b': 2}.items() | list | tojson | {'a': 1}.keys() | list | {'a': 1}.get('a') | {'a': 1}.get('z') | {'a': 1}.get('z', 'd') | {'a': 1} | items | list | tojson
1 is number | 'a' is string | {} is mapping | [] is iterable | 'a' is iterable | 1 is iterable | true is boolean | 1 is boolean | 2 is even | 3 is odd | true is true | 1 is true
1 is integer | 1.0 is float | 1 is eq 1 | 2 is gt 1 | 2 is not lt 1 | 'a' is in ['a'] | 'x' is not string | missing is undefined | none is not none | [] is sequence
range(3) | list | range(1, 7, 2) | list | range(3, 0, -1) | list | dict(a=1, b='x') | true == 1 | 1 == 1.0 | '1' == 1 | none == false | [1, [2]] == [1, [2]] | {'a': 1} == {'a': 1}
messages | selectattr('role', 'equalto', 'user') | list | length | messages | rejectattr('role', 'eq', 'user') | map(attribute='content') | list | ['a', 'b'] | map('upper') | list
'%s' if 0 else '#}' | '}}' | '{% x %}' | {'a': {'b': 1}}['a'].b | ({'a': 1}).a | (1, 2)[0] if false else 3 | -(2) | - 2 + 3 | +4 | 10 ** 1 if false else 1
"""


def split_expressions(text):
    """The samples are separated by ' | ' where what follows starts a new one; a filter's name does not."""
    filters = ("length map join trim upper lower capitalize default d tojson first last list reverse int replace items "
               "selectattr rejectattr").split()
    out = []
    for line in text.strip().splitlines():
        for part in line.split(" | "):
            word = part.split("(")[0].split(" ")[0].split("|")[0]
            if word in filters and out:
                out[-1] += " | " + part
            else:
                out.append(part)
    return [e for e in out if "**" not in e and "(1, 2)" not in e]


TEMPLATES = [
    ("text", "plain text, { not a tag } {x}\n"),
    ("trailing newlines", "a\n\n"),
    ("crlf", "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc"),
    ("comment", "a {# b {{ c }} #}\nd{#- e -#}  \n f"),
    ("trim and lstrip", "x\n  {% if true %}\n  yes\n  {% else %}\n  no\n  {% endif %}\nend\n"),
    ("lstrip only at line start", "x {% if true %} y {% endif %} z\n    {{ 1 }}\n  {# c #}\nq"),
    ("plus keeps", "x\n  {%+ if true +%}\n  y\n  {%+ endif %}\n"),
    ("minus", "a  \n {%- if true -%} \n b \n {%- endif -%}\n c {{- ' d ' -}} \n e"),
    ("newline then block", "{% if true %}\n\n{% endif %}\n  {% set x = 1 %}\n{{ x }}\n"),
    ("block after output on a line", "{{ 1 }}  {% if true %}a{% endif %}  {{ 2 }}\n"),
    ("dict in output", "{{ {'a': {'b': 'c'}}['a']['b'] }}{{ {'a': 1} }}"),
    ("loop", "{% for m in messages %}{{ loop.index0 }}/{{ loop.length }}:{{ m.role }}{% if not loop.last %}, {% endif %}"
             "{% endfor %}"),
    ("loop variables", "{% for m in messages %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}"
                       "{{ loop.revindex0 }}{{ loop.previtem.role if loop.previtem is defined }}"
                       "{{ loop.nextitem.role if not loop.last }};{% endfor %}"),
    ("loop else", "{% for m in [] %}x{% else %}none{% endfor %}{% for m in missing %}x{% else %}none{% endfor %}"),
    ("loop filter", "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% endfor %}"),
    ("loop pairs", "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{% for k in {'a': 1} %}{{ k }}"
                   "{% endfor %}{% for c in 'äb' %}<{{ c }}>{% endfor %}"),
    ("nested loops", "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ a }}{{ b }}{{ loop.index }} {% endfor %}"
                     "{{ loop.index }}{% endfor %}"),
    ("break and continue", "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}"
                           "{% endif %}{{ i }}{% endfor %}"),
    ("set in a loop stays there", "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}"),
    ("set in an if stays", "{% if true %}{% set x = 2 %}{% endif %}{{ x }}"),
    ("namespace", "{% set ns = namespace(n=0, seen=false) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
                  "{% if m.role == 'user' %}{% set ns.seen = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.seen }}"),
    ("set block", "{% set x %}a{{ 1 }}b{% endset %}[{{ x }}]"),
    ("elif", "{% for i in range(4) %}{% if i == 0 %}a{% elif i == 1 %}b{% elif i == 2 %}c{% else %}d{% endif %}"
             "{% endfor %}"),
    ("raise", "{% if messages[0].role != 'system' %}{{ raise_exception('no system message') }}{% endif %}ok"),
    ("undefined attribute", "{{ missing.role }}"),
    ("undefined sum", "{{ 'a' + missing }}"),
    ("wrong kinds", "{{ 'a' + 1 }}"),
    ("zero", "{{ 1 // 0 }}"),
    ("instruct with system", "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = "
     "messages[0]['content'] | trim %}{% set rest = messages[1:] %}{% else %}{% set system = false %}"
     "{% set rest = messages %}{% endif %}{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
     "{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and system %}"
     "{% set content = '<<' + system + '>>\\n' + m['content'] %}{% else %}{% set content = m['content'] %}{% endif %}"
     "{% if m['role'] == 'user' %}{{ '[Q] ' + content | trim + ' [/Q]' }}{% else %}{{ ' ' ~ content | trim ~ ' ' ~ "
     "eos_token }}{% endif %}{% endfor %}"),
    ("reasoning is dropped", "{%- for message in messages %}\n    {%- set content = message.content %}\n    "
     "{%- if message.role == 'assistant' and '</think>' in content %}\n        "
     "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n    {%- endif %}\n    "
     "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}\n{%- endfor %}\n"
     "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"),
    ("multi-line", "{% for message in messages %}\n  {% if message.role == 'user' %}\nUser: {{ message.content }}\n"
     "  {% elif message.role == 'assistant' %}\nAssistant: {{ message.content }}{{ eos_token }}\n  {% else %}\n"
     "System: {{ message.content | trim | upper }}\n  {% endif %}\n{% endfor %}\n"
     "{% if add_generation_prompt %}Assistant:{% endif %}\n"),
    ("tools are not given", "{% if tools is defined and tools %}{{ tools | tojson(indent=4) }}{% endif %}"
     "{% if date_string is not defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ date_string }}"
     "{% if strftime_now is defined %}never{% endif %}"),
    ("last user message", "{% set ns = namespace(last=-1) %}{% for m in messages[::-1] %}"
     "{% if ns.last == -1 and m.role == 'user' %}{% set ns.last = (messages | length - 1) - loop.index0 %}{% endif %}"
     "{% endfor %}{{ ns.last }}"),
    ("content that is not a string", "{% for m in messages %}{% if m.content is string %}s{% elif m.content is mapping %}m"
     "{% endif %}{% endfor %}{{ messages[0] }}"),
]


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def main():
    env = environment()
    cases = [(e, "{{ " + e + " }}") for e in split_expressions(EXPRESSIONS)] + TEMPLATES
    rows = []
    for name, template in cases:
        for chat in (SHORT, LONG):
            for prompt in (False, True):
                messages = [{"role": role, "content": content} for role, content in chat]
                row = {"name": name, "template": template, "messages": messages, "add_generation_prompt": prompt}
                try:
                    row["rendered"] = env.from_string(template).render(
                        messages=messages, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")
                except (jinja2.exceptions.TemplateError, TypeError, ZeroDivisionError) as error:
                    row["error"] = str(error)
                if row not in rows and not ("messages" not in template and chat is LONG) and \
                        not ("add_generation_prompt" not in template and prompt):
                    rows.append(row)
    text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (HERE / "templates.json").write_text("[\n" + text + "\n]\n", encoding="utf-8")
    print(len(rows), "cases,", sum("error" in row for row in rows), "errors")


if __name__ == "__main__":
    main()
