"""Writes tests/fixtures/templates.json: chat templates with the constructs that published models'
templates use (written for this test), and what transformers renders with them.

    python templates.py OUT.json        (transformers 5.23)
"""

import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

# Trimmed contents, headers, a system turn taken off the front by a slice, a default date.
HEADERS = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{#- A comment. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|head|>system<|/head|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: tools\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|/head|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|/head|>\\n\\n' }}
{%- endif %}
"""

# A namespace searched backwards, thinking cut out of earlier turns, Python's string methods.
THINKING = """{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and thought is defined %}
            {{- '<|b|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|b|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|e|>\\n' }}
    {%- else %}
        {{- '<|b|>' + message.role + '\\n' + content + '<|e|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|b|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

# Alternating turns or an exception, a renamed role, block tags on their own lines.
STRICT = """{{ bos_token }}
{% if messages[0]['role'] == 'system' %}
{% set first = messages[0]['content'] | trim + '\\n\\n' %}
{% set rest = messages[1:] %}
{% else %}
{% set first = '' %}
{% set rest = messages %}
{% endif %}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception("Conversation roles must alternate") }}
    {% endif %}
    {% if (message['role'] == 'assistant') %}
        {% set role = 'model' %}
    {% else %}
        {% set role = message['role'] %}
    {% endif %}
<turn>{{ role }}
{{ (first if loop.first else '') ~ message['content'] | trim }}<turn end>
{% if loop.last %}(last){% endif %}

{% endfor %}
{% if add_generation_prompt %}
<turn>model
{% endif %}
"""

# JSON, macros, filters, tests, inline conditions, eos.
JSON = """{%- macro show(m) -%}[{{ m.role | upper }}:{{ m['content'] | tojson }}]{%- endmacro -%}
{{ messages | tojson }}
{{ messages | tojson(indent=2) }}
{% for m in messages if m.role != 'system' %}{{ show(m) }}{{ eos_token if not loop.last else "" }}{% else %}none{% endfor %}
{% for key, value in messages[0].items() %}{{ key }}={{ value | length }};{% endfor %}
{{ messages | map(attribute='role') | join(', ') }} {{ (messages | last).content is string }} {{ messages[-1]['name'] is defined }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 7 // 2 }} {{ 2 ** 3 }} {{ true and not none }}
"""

CHATS = [
    [("user", "Hi")],
    [("system", "  Be brief.\n"), ("user", " What is <b>\"x\"</b> & 'y'? ü \U0001f600\n")],
    [("user", "one"), ("assistant", "<think>\nhm\n</think>\n\ntwo"), ("user", "three")],
    [("user", "one"), ("assistant", "<think>\nhm\n</think>\n\ntwo\n")],
    [("system", ""), ("user", "a\\b\tc"), ("assistant", ""), ("user", "</think>"), ("assistant", "d")],
]
BAD = [("user", "one"), ("user", "two")]


def messages(chat):
    return [dict(role=role, content=content) for role, content in chat]


def render(template, chat, prompt):
    rendered, _ = render_jinja_template(
        conversations=[messages(chat)],
        chat_template=template,
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="</s>",
    )
    return rendered[0]


def main(out):
    cases = []
    for name, template in dict(headers=HEADERS, thinking=THINKING, strict=STRICT, json=JSON).items():
        renders = [
            dict(messages=messages(chat), prompt=prompt, text=render(template, chat, prompt))
            for chat in CHATS
            for prompt in (False, True)
        ]
        cases.append(dict(name=name, template=template, renders=renders))
    try:
        render(STRICT, BAD, False)
    except Exception as error:
        refused = dict(template="strict", messages=messages(BAD), error=str(error))
    data = dict(about="written by scripts/templates.py; see there", cases=cases, refused=refused)
    out.write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
